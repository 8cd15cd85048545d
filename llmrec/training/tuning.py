"""Tune the settings of a fusion with Optuna, on validation targets alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from llmrec.catalog import Catalog
from llmrec.content_cache import content_key
from llmrec.errors import LlmrecError, OptionError, StorageError
from llmrec.items import ModalityVectors
from llmrec.items.fusion import FusionConfig
from llmrec.records import Interaction
from llmrec.training.dataset import build_dataset
from llmrec.training.train_fusion import train_fusion

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class TunedFusion:
    """The best settings, their score (the hybrid's nDCG@10), and the number of trials."""

    config: FusionConfig
    score: float
    trials: int


def tune_fusion(
    training: Catalog,
    modalities: Sequence[ModalityVectors],
    validation: Mapping[str, Interaction],
    config: FusionConfig | None = None,
    *,
    trials: int,
    storage: Path | None = None,
    progress: bool = False,
) -> TunedFusion:
    """Try settings drawn by a tree-structured Parzen estimator (Bergstra et al. 2011).

    The space is small: dimension 32, 64 or 128; 0 to 2 layers; dropout 0.1 to 0.5; identity_dropout
    0 to 0.5; learning_rate 0.0003 to 0.01; weight_decay 0.001 to 0.3. All other settings, and the
    random seed, are those of ``config``.

    Args:
        training: As of :func:`train_fusion`.
        modalities: As of :func:`train_fusion`.
        validation: At least one target.
        config: Settings outside the space; None takes the defaults.
        trials: Number of settings to try, including the trials in ``storage``.
        storage: An SQLite file of trials, from which a killed run resumes. Trials on other data or
            from another ``config`` in the same file are not used.
        progress: Show a progress bar on stderr if it is a terminal.

    Raises:
        OptionError: ``trials`` is below 1, or there is no validation target.
        LlmrecError: Optuna is not installed.
        StorageError: ``storage`` cannot be used.
    """
    base = config or FusionConfig()
    if trials < 1:
        raise OptionError(f"trials is {trials}; allowed is 1 or more.")
    if not validation:
        raise OptionError(
            "There is no validation target to tune on.",
            hint="Give users with five interactions or more, whose last one is held out.",
        )
    try:
        optuna: Any = import_module("optuna")
    except ImportError as error:
        raise LlmrecError(
            "optuna is not installed.", hint="Install it: pip install 'llmrec[tune]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    digest = build_dataset(training, modalities, validation, base).digest()
    name = f"fusion-{content_key(digest, repr(asdict(base)))[:16]}"
    study = _study(optuna, name, storage)

    def score(trial: Trial) -> float:
        return train_fusion(training, modalities, validation, _drawn(trial, base)).best.score

    complete = (optuna.trial.TrialState.COMPLETE,)
    done = len(study.get_trials(states=complete))
    # A sampler restarts its draws on resuming: with the same seed it would repeat its trials.
    study.sampler = optuna.samplers.TPESampler(seed=base.seed + done)
    bar = tqdm(
        total=max(trials, done),
        initial=done,
        desc="Trying settings",
        unit="trial",
        disable=None if progress else True,
    )

    def show(study: Study, _: FrozenTrial) -> None:
        bar.set_postfix_str(f"best {study.best_value:.3f}")
        bar.update()

    with bar:
        study.optimize(score, n_trials=max(0, trials - done), callbacks=[show])
    return TunedFusion(
        _drawn(optuna.trial.FixedTrial(study.best_params), base),
        study.best_value,
        len(study.get_trials(states=complete)),
    )


def _study(optuna: Any, name: str, storage: Path | None) -> Any:  # noqa: ANN401 - Optuna's
    """Open or create the study of that name."""
    database = import_module("sqlalchemy.exc")  # Optuna requires it
    try:
        if storage:
            storage.parent.mkdir(parents=True, exist_ok=True)
        return optuna.create_study(
            study_name=name,
            storage=f"sqlite:///{storage}" if storage else None,
            direction="maximize",
            load_if_exists=True,
        )
    except (OSError, database.SQLAlchemyError) as error:
        why = str(error).splitlines()[0]
        raise StorageError(
            f"The trials cannot be saved in {storage}: {why}.",
            hint="Delete the file if it is damaged, or name a folder that can be written.",
        ) from error


def _drawn(trial: Trial, base: FusionConfig) -> FusionConfig:
    return replace(
        base,
        dimension=trial.suggest_categorical("dimension", (32, 64, 128)),
        layers=trial.suggest_int("layers", 0, 2),
        dropout=trial.suggest_float("dropout", 0.1, 0.5),
        identity_dropout=trial.suggest_float("identity_dropout", 0.0, 0.5),
        learning_rate=trial.suggest_float("learning_rate", 0.0003, 0.01, log=True),
        weight_decay=trial.suggest_float("weight_decay", 0.001, 0.3, log=True),
    )
