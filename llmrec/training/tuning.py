"""Find settings of a fusion with Optuna, on validation targets alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrec.catalog import Catalog
from llmrec.embedding import ModalityVectors
from llmrec.embedding.fusion import FusionConfig
from llmrec.errors import LlmrecError, OptionError
from llmrec.records import Interaction
from llmrec.training.fusion import train_fusion

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class Tuned:
    """The best settings, what they reached (recall@20 + nDCG@10), and how many were tried."""

    config: FusionConfig
    figure: float
    trials: int


def tune_fusion(
    training: Catalog,
    modalities: Sequence[ModalityVectors],
    validation: Mapping[str, Interaction],
    config: FusionConfig | None = None,
    *,
    trials: int,
    storage: Path | None = None,
) -> Tuned:
    """Try settings drawn by a tree-structured Parzen estimator (Bergstra et al. 2011).

    The space is small: dimension 32, 64 or 128; 0 to 2 layers; dropout 0.1 to 0.5; identity_dropout
    0 to 0.5; learning_rate 0.001 to 0.01; weight_decay 0.001 to 0.3; horizon 1, 3 or 5; association
    and reconstruction off or 0.1. All else is as in ``config``, whose seed is that of the draws.

    Args:
        training: As of :func:`train_fusion`, and so the next two.
        modalities: Likewise.
        validation: At least one target.
        config: What the settings that are not in the space are; None takes the defaults.
        trials: How many settings to try, those that ``storage`` holds included.
        storage: An SQLite file that keeps the trials: a killed run goes on there.

    Raises:
        OptionError: ``trials`` is below 1, or there is no validation target.
        LlmrecError: Optuna is not installed.
    """
    base = config or FusionConfig()
    if trials < 1:
        raise OptionError(f"trials is {trials}; allowed is 1 or more.")
    if not validation:
        raise OptionError("There is no validation target to tune on.")
    try:
        optuna: Any = import_module("optuna")
    except ImportError as error:
        raise LlmrecError(
            "optuna is not installed.", hint="Install it: pip install 'llmrec[tune]'."
        ) from error
    if storage:
        storage.parent.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=f"fusion-{base.seed}",
        storage=f"sqlite:///{storage}" if storage else None,
        direction="maximize",
        load_if_exists=True,
    )

    def judge(trial: Trial) -> float:
        return train_fusion(training, modalities, validation, drawn(trial, base)).best.figure

    complete = (optuna.trial.TrialState.COMPLETE,)
    done = len(study.get_trials(states=complete))
    # A sampler's draws start anew on resuming: another seed, or the same would be tried again.
    study.sampler = optuna.samplers.TPESampler(seed=base.seed + done)
    study.optimize(judge, n_trials=max(0, trials - done))
    return Tuned(
        drawn(optuna.trial.FixedTrial(study.best_params), base),
        study.best_value,
        len(study.get_trials(states=complete)),
    )


def drawn(trial: Trial, base: FusionConfig) -> FusionConfig:
    """The settings of a trial."""
    return replace(
        base,
        dimension=trial.suggest_categorical("dimension", (32, 64, 128)),
        layers=trial.suggest_int("layers", 0, 2),
        dropout=trial.suggest_float("dropout", 0.1, 0.5),
        identity_dropout=trial.suggest_float("identity_dropout", 0.0, 0.5),
        learning_rate=trial.suggest_float("learning_rate", 0.001, 0.01, log=True),
        weight_decay=trial.suggest_float("weight_decay", 0.001, 0.3, log=True),
        horizon=trial.suggest_categorical("horizon", (1, 3, 5)),
        association=trial.suggest_categorical("association", (0.0, 0.1)),
        reconstruction=trial.suggest_categorical("reconstruction", (0.0, 0.1)),
    )
