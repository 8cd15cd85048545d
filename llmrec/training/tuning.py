"""Find settings of a fusion with Optuna, on validation targets alone."""

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
from llmrec.training.dataset import gather_material
from llmrec.training.fusion import train_fusion

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial


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
    progress: bool = False,
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
        storage: An SQLite file that keeps the trials: a killed run goes on there. Trials on other
            data or from another ``config`` may stand in it too and are left alone.
        progress: Show a bar on stderr, where that is a terminal.

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
    digest = gather_material(training, modalities, validation, base).digest()
    name = f"fusion-{content_key(digest, repr(asdict(base)))[:16]}"
    study = _study(optuna, name, storage)

    def judge(trial: Trial) -> float:
        return train_fusion(training, modalities, validation, drawn(trial, base)).best.figure

    complete = (optuna.trial.TrialState.COMPLETE,)
    done = len(study.get_trials(states=complete))
    # A sampler's draws start anew on resuming: another seed, or the same would be tried again.
    study.sampler = optuna.samplers.TPESampler(seed=base.seed + done)
    bar = tqdm(
        total=max(trials, done),
        initial=done,
        desc="Trying settings",
        unit="trial",
        disable=None if progress else True,
    )

    def tell(study: Study, _: FrozenTrial) -> None:
        bar.set_postfix_str(f"best {study.best_value:.3f}")
        bar.update()

    with bar:
        study.optimize(judge, n_trials=max(0, trials - done), callbacks=[tell])
    return Tuned(
        drawn(optuna.trial.FixedTrial(study.best_params), base),
        study.best_value,
        len(study.get_trials(states=complete)),
    )


def _study(optuna: Any, name: str, storage: Path | None) -> Any:  # noqa: ANN401 - Optuna's
    """Open the study of that name, or begin it."""
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
            f"The trials cannot be kept in {storage}: {why}.",
            hint="Delete the file where it is damaged, or name a folder that can be written.",
        ) from error


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
