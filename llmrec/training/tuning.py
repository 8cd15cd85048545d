"""Tune settings with Optuna, on validation targets alone: of a fusion, of a language model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tqdm import tqdm

from llmrec.catalog import Catalog
from llmrec.content_cache import content_key
from llmrec.errors import DivergedError, LlmrecError, OptionError, StorageError
from llmrec.items import ModalityVectors
from llmrec.items.fusion import FusionConfig
from llmrec.models import TransformersModel
from llmrec.prompting import Template
from llmrec.records import Interaction
from llmrec.training.dataset import build_dataset
from llmrec.training.train_fusion import train_fusion
from llmrec.training.train_reranker import tune_reranker
from llmrec.training.tuning_data import TuningData
from llmrec.training.tuning_settings import TuningSettings

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial


logger = logging.getLogger(__name__)
S = TypeVar("S")
TRIED = ("learning_rate", "weight_decay", "rank", "dropout")
"""Settings of a language model's tuning that trials draw."""


@dataclass(frozen=True)
class BestTrial(Generic[S]):
    """The best settings, their score (nDCG@10 on validation), and the number of trials."""

    config: S
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
) -> BestTrial[FusionConfig]:
    """Try settings of a fusion; the score is the hybrid's.

    The space is small: dimension 32, 64 or 128; 0 to 2 layers; dropout 0.1 to 0.5; identity_dropout
    0 to 0.5; learning_rate 0.0003 to 0.01; weight_decay 0.001 to 0.3. All other settings, and the
    random seed, are those of ``config``.

    Args:
        training: As of :func:`train_fusion`.
        modalities: As of :func:`train_fusion`.
        validation: At least one target.
        config: Settings outside the space; None takes the defaults.
        trials: See :func:`try_settings`, as of the others.
        storage: A file of trials.
        progress: Show a progress bar.

    Raises:
        OptionError: ``trials`` is below 1, or there is no validation target.
        LlmrecError: Optuna is not installed.
        StorageError: ``storage`` cannot be used.
    """
    base = config or FusionConfig()
    if not validation:
        raise OptionError(
            "There is no validation target to tune on.",
            hint="Give users with five interactions or more, whose last one is held out.",
        )
    digest = build_dataset(training, modalities, validation, base).digest()
    return try_settings(
        lambda config: train_fusion(training, modalities, validation, config).best.score,
        _fusion_of,
        base,
        name=f"fusion-{content_key(digest, repr(asdict(base)))[:16]}",
        seed=base.seed,
        trials=trials,
        storage=storage,
        progress=progress,
    )


def tune_reranker_settings(
    load: Callable[[], TransformersModel],
    data: TuningData,
    template: Template,
    settings: TuningSettings,
    *,
    trials: int,
    minutes: float | None = None,
    storage: Path | None = None,
    progress: bool = False,
) -> BestTrial[TuningSettings]:
    """Try settings of a language model's tuning; the score is that of the gate.

    The space is learning_rate, a tenth to three times the default; weight_decay 0.001 to 0.3; with
    LoRA rank 8, 16 or 32 and dropout 0 to 0.3.

    Args:
        load: Loads the base: each trial changes its own.
        data: As of :func:`train_reranker.tune_reranker`.
        template: Of the data's prompts.
        settings: Settings outside the space.
        trials: See :func:`try_settings`, as of the others.
        minutes: Time of a trial.
        storage: A file of trials.
        progress: Show a progress bar.

    Raises:
        OptionError: ``trials`` is below 1.
        LlmrecError: Optuna is not installed.
        StorageError: ``storage`` cannot be used.
    """

    def score(tried: TuningSettings) -> float:
        with TemporaryDirectory() as folder:
            tuned = tune_reranker(
                load(), data, template, Path(folder), tried, minutes=minutes, fit_time=True
            )
        return tuned.ndcg[tuned.best]

    return try_settings(
        score,
        _tuning_of,
        settings,
        name=f"reranker-{content_key(data.fingerprint, template.sha256, repr(settings))[:16]}",
        seed=settings.seed,
        trials=trials,
        storage=storage,
        progress=progress,
    )


def try_settings(
    score: Callable[[S], float],
    drawn: Callable[[Trial, S], S],
    base: S,
    *,
    name: str,
    seed: int,
    trials: int,
    storage: Path | None = None,
    progress: bool = False,
) -> BestTrial[S]:
    """Try settings drawn by a tree-structured Parzen estimator (Bergstra et al. 2011).

    Args:
        score: What settings reach.
        drawn: Draws settings of a trial; what is outside the space is the base's.
        base: The base.
        name: Of the study: trials of others in the same file are not used.
        seed: Random seed.
        trials: Number of settings to try, including the trials in ``storage``.
        storage: An SQLite file of trials, from which a killed run resumes.
        progress: Show a progress bar on stderr if it is a terminal.

    Raises:
        OptionError: ``trials`` is below 1.
        LlmrecError: Optuna is not installed.
        DivergedError: Every trial diverged.
        StorageError: ``storage`` cannot be used.
    """
    if trials < 1:
        raise OptionError(f"trials is {trials}; allowed is 1 or more.")
    try:
        optuna: Any = import_module("optuna")
    except ImportError as error:
        raise LlmrecError(
            "optuna is not installed.", hint="Install it: pip install 'llmrec[tune]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns with a traceback
    study = _study(optuna, name, storage)
    complete = (optuna.trial.TrialState.COMPLETE,)
    done = len(study.get_trials(states=complete))
    # A sampler restarts its draws on resuming: with the same seed it would repeat its trials.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    bar = tqdm(
        total=max(trials, done),
        initial=done,
        desc="Trying settings",
        unit="trial",
        disable=None if progress else True,
    )

    def show(study: Study, trial: FrozenTrial) -> None:
        if trial.state in complete:
            bar.set_postfix_str(f"best {study.best_value:.3f}")
        else:
            logger.warning("A trial diverged: %s", trial.params)
        bar.update()

    with bar:
        study.optimize(
            lambda trial: score(drawn(trial, base)),
            n_trials=max(0, trials - done),
            callbacks=[show],
            catch=(DivergedError,),
        )
    if not study.get_trials(states=complete):
        raise DivergedError(
            f"All {len(study.trials)} trials diverged.", hint="Try other settings with --set."
        )
    return BestTrial(
        drawn(optuna.trial.FixedTrial(study.best_params), base),
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


def _fusion_of(trial: Trial, base: FusionConfig) -> FusionConfig:
    return replace(
        base,
        dimension=trial.suggest_categorical("dimension", (32, 64, 128)),
        layers=trial.suggest_int("layers", 0, 2),
        dropout=trial.suggest_float("dropout", 0.1, 0.5),
        identity_dropout=trial.suggest_float("identity_dropout", 0.0, 0.5),
        learning_rate=trial.suggest_float("learning_rate", 0.0003, 0.01, log=True),
        weight_decay=trial.suggest_float("weight_decay", 0.001, 0.3, log=True),
    )


def _tuning_of(trial: Trial, base: TuningSettings) -> TuningSettings:
    rate = base.rate
    tried = replace(
        base,
        learning_rate=trial.suggest_float("learning_rate", rate / 10, rate * 3, log=True),
        weight_decay=trial.suggest_float("weight_decay", 0.001, 0.3, log=True),
    )
    if base.weights == "full":
        return tried
    rank = trial.suggest_categorical("rank", (8, 16, 32))
    return replace(tried, rank=rank, dropout=trial.suggest_float("dropout", 0.0, 0.3))
