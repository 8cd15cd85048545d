"""Tuning of a language model on titles in order or on lists of candidates; resumes exactly.

The loop is our own: several prompts in one row under a block mask, a gate that is learned beside
the model, and validation of the gated score are no part of transformers' ``Trainer``, and what
would be left of it is the loop below.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from llmrec.errors import DivergedError, ModelError, OptionError
from llmrec.models.adapter import (
    AdapterRecord,
    add_lora,
    apply_adapter,
    check_base,
    tokenizer_fingerprint,
    weights_fingerprint,
)
from llmrec.models.hardware import halve_until_it_fits
from llmrec.models.prefix_scoring import input_device
from llmrec.models.transformers_model import TransformersModel
from llmrec.prompting import Template
from llmrec.training.gated_validation import (
    Limits,
    Validated,
    lists_in_time,
    title_priors,
    validate,
)  # fmt: skip
from llmrec.training.list_loss import ListLoss
from llmrec.training.packed_rows import (
    SAME_GRADIENT,
    Segment,
    batches_of,
    gradient_difference,
    longer_than_window,
    segment_scores,
)
from llmrec.training.tracking import Tracker
from llmrec.training.tuning_data import FEWEST_VALIDATION, TuningData, TuningList, check_data
from llmrec.training.tuning_settings import TuningSettings, check_start
from llmrec.training.tuning_state import TuningState, load_state, save_state

logger = logging.getLogger(__name__)

_TIMED = 3
"""Steps after which their number is fitted to the time; the first alone where it is slow."""
_SLOW = 10.0
"""Seconds of a slow step."""
_WARM_UP = 0.05
"""Share of the steps over which the learning rate rises."""
_MAX_GRADIENT_NORM = 1.0
_CHECKPOINT = "checkpoint.safetensors"
_CHECKPOINT_SECONDS = 120.0
_COLLAPSED = 0.5
"""Share of validation lists without any difference of scores from which training stops."""


@dataclass(frozen=True)
class Tuned:
    """A tuning's result.

    ``finished`` is False where the time ran out: the same call goes on. ``best`` is the step whose
    weights are kept, 0 for those it started from; ``ndcg`` has nDCG@10 of the gated validation
    lists by step, ``control`` the same without a language model, ``validation_lists`` their number.
    ``fallbacks`` counts what did not go as usual.
    """

    finished: bool
    step: int
    steps: int
    best: int
    ndcg: Mapping[int, float]
    control: float
    validation_lists: int
    seconds: float
    fallbacks: Mapping[str, int] = field(default_factory=dict)


def tune_reranker(
    model: TransformersModel,
    data: TuningData,
    template: Template,
    out: Path,
    settings: TuningSettings | None = None,
    *,
    start: Path | None = None,
    minutes: float | None = None,
    fit_time: bool = False,
    restart: Collection[str] = (),
    progress: bool = False,
    tracker: Tracker | None = None,
) -> Tuned:
    """Tune a model's weights in place, and write the adapter of the best validation to a folder.

    The same call on the same folder resumes a killed or ended run. The base, or the adapter it
    started from, is kept where no validation was above its own.

    Args:
        model: The base, just loaded; in fp32 for full weights.
        data: Windows or lists, and validation lists.
        template: Of the data's prompts.
        out: Folder of adapter and checkpoint.
        settings: None takes the defaults.
        start: An adapter of the same base to start from, such as one of another objective.
        minutes: Stop after so many, with a checkpoint, and after one step or more.
        fit_time: Take only as many steps as fit into the minutes, with their validations, and
            judge by fewer validation lists where two validations would take a third of the time.
        restart: Settings by which a checkpoint may differ: it is replaced, not refused.
        progress: Show a bar on stderr, where that is a terminal.
        tracker: Receives loss and validation.

    Raises:
        DataError: There is nothing to train on, or too little to validate on.
        DivergedError: A loss or gradient is not finite.
        ModelError: The model has no layers for LoRA.
        OptionError: The settings do not suit the model or ``start``.
        StorageError: The folder cannot be used, or holds the checkpoint of another training.
        OutOfMemoryError: Not even one row fits.
    """
    started = time.monotonic()
    settings = (settings or TuningSettings()).checked()
    check_data(data, settings)
    run = _Tuning.begin(model, data, template, settings, out, start)
    state = run.resume(restart)
    spent = state.seconds

    def seconds() -> float:
        return spent + time.monotonic() - started

    if not state.ndcg:
        if fit_time and minutes is not None:
            run.fit_validation(state, 60 * minutes)
        run.judge(state)
        if tracker:
            tracker.log({"validation/ndcg@10": state.ndcg[0], "control": state.control}, step=0)
    if not state.steps:
        state.steps = run.steps_an_epoch * settings.epochs
        state.every = max(1, math.ceil(state.steps / settings.validations))
    saved, resumed = time.monotonic(), state.step
    hidden = None if progress else True
    bar = tqdm(total=state.steps, initial=state.step, desc="Tuning", unit="step", disable=hidden)
    with bar:
        while state.step < state.steps and not state.ended(settings.patience):
            late = minutes is not None and time.monotonic() - started > 60 * minutes
            if late and state.step > resumed:
                state.seconds = seconds()
                run.save(state)
                return run.result(state, finished=False)
            loss, tokens, took = run.train_step(state)
            state.step += 1
            metrics = {"loss": loss, "tokens_a_second": tokens / took}
            timed = state.step == _TIMED or (state.step == 1 and took > _SLOW)
            if fit_time and minutes is not None and timed:
                left = 60 * minutes - (time.monotonic() - started)
                state.plan(left, took, settings.validations)
                bar.total = state.steps
            if state.step % state.every == 0 or state.step == state.steps:
                run.judge(state)
                metrics["validation/ndcg@10"] = state.ndcg[state.step]
            if tracker:
                tracker.log({**metrics, **run.list_loss.weights()}, step=state.step)
            bar.set_postfix_str(f"loss {loss:.3f}, best nDCG@10 {state.ndcg[state.best]:.4f}")
            bar.update()
            if time.monotonic() - saved > _CHECKPOINT_SECONDS:
                state.seconds = seconds()
                run.save(state)
                saved = time.monotonic()
    state.seconds = seconds()
    run.save(state)
    run.write_adapter(state)
    return run.result(state, finished=True)


@dataclass
class _Tuning:
    """Model, data and optimizer of one tuning; ``start`` is the digest of the adapter before it."""

    base: TransformersModel
    model: PreTrainedModel
    data: TuningData
    template: Template
    settings: TuningSettings
    out: Path
    list_loss: ListLoss
    optimizer: torch.optim.Optimizer
    limits: Limits
    whole: bool
    lora: Any
    start: str
    identity: dict[str, str]

    @classmethod
    def begin(
        cls,
        base: TransformersModel,
        data: TuningData,
        template: Template,
        settings: TuningSettings,
        out: Path,
        start: Path | None,
    ) -> _Tuning:
        torch.manual_seed(settings.seed)
        model = base.model
        if base.adapter is not None or any("lora_" in name for name, _ in model.named_parameters()):
            raise ModelError(
                f"{base.name} is tuned already.",
                hint="Load the base again; start= goes on from an adapter.",
            )
        quantization = base.placement.quantization
        if (settings.weights == "qlora", quantization) not in {(True, "nf4"), (False, "none")}:
            raise OptionError(
                f"The weights {settings.weights!r} cannot be tuned on a model with the "
                f"quantization {quantization!r}.",
                hint="Load it in nf4 for qlora, else with quantization none.",
            )
        identity = {
            "base": f"{base.name}@{base.revision}",
            "base_weights": weights_fingerprint(model, quantized=quantization != "none"),
            "tokenizer": tokenizer_fingerprint(base.tokenizer),
        }
        started = ""
        if start is not None:
            check_start(start, settings, template)
            record = check_base(start, model, base.tokenizer)
            started = replace(record, settings={}).digest  # its patience may differ on resuming
        lora = None
        if settings.weights == "full":
            if start is not None:
                model = apply_adapter(model, base.tokenizer, start)
            model.requires_grad_(requires_grad=True)
        else:
            lora = add_lora(model, settings.rank, settings.dropout, start)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        list_loss = ListLoss(data, settings).to(input_device(model))
        weights = {"params": trained, "base_rate": settings.rate}
        groups = [{**weights, "weight_decay": settings.weight_decay}]
        if settings.on_lists:
            parameters = list(list_loss.parameters())
            groups.append({"params": parameters, "base_rate": settings.offset_rate})
        optimizer = torch.optim.AdamW(groups, lr=settings.rate, weight_decay=0.0)
        apart = gradient_difference(model.eval())  # dropout would differ
        model.train()
        exact = model.dtype == torch.float32
        whole = not apart <= (SAME_GRADIENT if exact else 0.1)
        if whole:
            logger.warning(
                "%s cannot share prompts under gradients (relative difference %.2g): every row is "
                "forwarded whole.",
                type(model).__name__,
                apart,
            )
        limits = Limits.of(model)
        return cls(
            base, model, data, template, settings, out, list_loss, optimizer, limits, whole, lora,
            started, identity,
        )  # fmt: skip

    @cached_property
    def steps_an_epoch(self) -> int:
        """Steps of one pass."""
        if self.settings.on_lists:
            return math.ceil(len(self.data.lists) / self.settings.step_lists)
        tokens = [len(window) for window in self.data.windows]
        steps = math.ceil(sum(tokens) / self.settings.step_tokens)
        return max(1, min(steps, sum(tokens) // max(tokens)))  # no step is without a window

    @property
    def lazy(self) -> bool:
        """Whether the model without its LoRA is the untuned one, which titles' priors come from."""
        return self.lora is not None and not self.start

    def trained(self) -> dict[str, Tensor]:
        """Everything that is trained, by name."""
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        return {**named, **{f"offset.{name}": p for name, p in self.list_loss.named_parameters()}}

    def train_step(self, state: TuningState) -> tuple[float, int, float]:
        """Train on a step's windows or lists; its loss, tokens and seconds."""
        began = time.monotonic()
        epoch, place = divmod(state.step, self.steps_an_epoch)
        progress = (state.step + 1) / state.steps
        warm = min(1.0, progress / _WARM_UP)
        factor = warm * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_rate"] * factor
        draw = np.random.default_rng((self.settings.seed, epoch))
        torch.manual_seed(self.settings.seed + state.step)  # of dropout
        if self.settings.on_lists:
            order = draw.permutation(len(self.data.lists))
            size = self.settings.step_lists
            chosen = order[place * size : (place + 1) * size]
            draw = np.random.default_rng((self.settings.seed, epoch, place))
            entries = [self.data.lists[i].drawn(self.settings.sizes, draw) for i in chosen]
            users = [self.settings.augmented(entry.user, draw) for entry in entries]
            self._add_priors(state, entries)
            pairs = zip(users, entries, strict=True)
            segments = [self.data.write(user, entry.items) for user, entry in pairs]
        else:
            order = draw.permutation(len(self.data.windows))
            sizes = np.array([len(window) for window in self.data.windows])[order]
            before = np.cumsum(sizes) - sizes
            at = before * self.steps_an_epoch // sizes.sum()
            segments, entries = [self.data.windows[i] for i in order[at == place]], []
        loss = self._accumulate(state, segments, entries)
        trained = list(self.trained().values())
        norm = nn.utils.clip_grad_norm_(
            [p for p in trained if p.grad is not None], _MAX_GRADIENT_NORM
        )
        if not (math.isfinite(loss) and bool(torch.isfinite(norm))):
            raise DivergedError(
                f"Training diverged: the loss of step {state.step + 1} is {loss}, its gradient "
                f"{float(norm)}. A checkpoint in {self.out} is of an earlier step.",
                hint=f"Lower the learning rate, which is {self.settings.rate}.",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss, sum(map(len, segments)), time.monotonic() - began

    def _accumulate(
        self, state: TuningState, segments: Sequence[Segment], entries: Sequence[TuningList]
    ) -> float:
        """Gradients of a step, in as many batches as memory takes."""
        whole = self.whole or longer_than_window(self.model, segments)
        if whole:
            state.count("whole_rows")

        def compute(batch_tokens: int) -> float:
            self.optimizer.zero_grad(set_to_none=True)
            self.limits = replace(self.limits, batch_tokens=batch_tokens)
            return sum(self._batch_losses(state, segments, entries, whole=whole))

        loss, halvings = halve_until_it_fits(
            compute,
            self.limits.batch_tokens,
            least=max(map(len, segments)) // 2,
            unit="token",
            name="training",
            hint="Take LoRA, a smaller model, or shorter histories.",
        )
        state.count("batch_halved", halvings)
        return loss

    def _batch_losses(
        self,
        state: TuningState,
        segments: Sequence[Segment],
        entries: Sequence[TuningList],
        *,
        whole: bool,
    ) -> Iterator[float]:
        limits = self.limits
        if entries:
            weight = 1 / len(entries)
        else:
            weight = 1 / sum(int(s.learned.sum()) for s in segments if s.learned is not None)
        for batch in batches_of(segments, limits.row_tokens, limits.batch_tokens):
            rows = [[segments[number] for number in row] for row in batch]
            numbers = [number for row in batch for number in row]
            with limits.products():
                scores = segment_scores(self.model, rows, whole=whole)
            if entries:
                some = [entries[number] for number in numbers]
                written = [segments[number] for number in numbers]
                total = self.list_loss(scores, some, written, state.priors)
            else:
                total = -torch.cat(scores).sum()
            loss = total * weight
            loss.backward()
            yield float(loss.detach())

    def _add_priors(self, state: TuningState, entries: Sequence[TuningList]) -> None:
        """Score titles without a history by the base, those that no step had before."""
        new = [e for e in entries if np.isnan(state.priors[e.items]).any()]
        if not new or self.data.strategy != "likelihood":
            return
        self.model.eval()
        with self.lora.disable_adapter() if self.lazy else nullcontext():
            found = title_priors(self.model, self.data, new, self.limits, whole=self.whole)
        self.model.train()
        state.priors = np.where(np.isnan(state.priors), found, state.priors)

    def fit_validation(self, state: TuningState, seconds: float) -> None:
        """Leave out validation lists of which two validations would take over a third of a time."""
        model, lists = self.model.eval(), self.data.validation
        most = lists_in_time(model, self.data, self.limits, seconds / 6, whole=self.whole)
        state.validation_lists = min(len(lists), max(FEWEST_VALIDATION, most))
        if state.validation_lists < len(lists):
            state.count("validation_lists_left_out", len(lists) - state.validation_lists)
            logger.warning(
                "%d of %d validation lists fit the time", state.validation_lists, len(lists)
            )

    def _validation(self, state: TuningState) -> Sequence[TuningList]:
        return self.data.validation[: state.validation_lists]

    def judge(self, state: TuningState) -> None:
        """Validate; keep the weights if they are the best so far."""
        began = time.monotonic()
        self.model.eval()
        data = replace(self.data, validation=self._validation(state))
        found: Validated = validate(
            self.model, data, self.limits, seed=self.settings.seed, whole=self.whole
        )
        if state.step == 0 and self.settings.on_lists:
            state.priors = np.full(len(self.data.popularity), np.nan)
            if not self.lazy:
                self._add_priors(state, self.data.lists)
            self.list_loss.start(found.weights)
        self.model.train()
        state.judging = time.monotonic() - began
        if found.collapsed > _COLLAPSED:
            logger.warning(
                "step %d: all candidates have one score in %.0f %% of the validation lists: the "
                "model collapsed, training stops",
                state.step,
                100 * found.collapsed,
            )
            state.count("collapsed")
            state.collapsed = True
        state.ndcg[state.step], state.control = found.ndcg, float(found.control.mean())
        if state.step == 0 or found.ndcg > state.ndcg[state.best]:
            state.best, state.gate = state.step, dict(found.weights)
            state.best_weights = {
                name: value.detach().to("cpu", copy=True) for name, value in self.trained().items()
            }

    def settings_document(self) -> dict[str, Any]:
        """What a step depends on: not ``patience``, which may differ on resuming."""
        kept = {n: v for n, v in asdict(self.settings).items() if n != "patience"}
        known = {**kept, "sizes": list(self.settings.sizes), "torch": torch.__version__}
        known |= {"template": self.template.sha256, "start": self.start}
        return {**known, **self.identity, "data": self.data.fingerprint}

    def save(self, state: TuningState) -> None:
        """Replace the checkpoint."""
        path = self.out / _CHECKPOINT
        save_state(path, state, self.trained(), self.optimizer, self.settings_document())

    def resume(self, restart: Collection[str]) -> TuningState:
        """Load the checkpoint, where there is one."""
        path, settings = self.out / _CHECKPOINT, self.settings_document()
        return load_state(path, self.trained(), self.optimizer, settings, restart)

    def result(self, state: TuningState, *, finished: bool) -> Tuned:
        """The result of the tuning so far."""
        return Tuned(
            finished,
            state.step,
            state.steps,
            state.best,
            dict(state.ndcg),
            state.control,
            len(self._validation(state)),
            state.seconds,
            dict(state.fallbacks),
        )

    def write_adapter(self, state: TuningState) -> None:
        """Write the best weights with what they are for, and leave the model with them."""
        with torch.no_grad():
            for name, parameter in self.trained().items():
                parameter.copy_(state.best_weights[name])
        AdapterRecord(
            kind=("lora" if self.lora else "full") if state.best or self.start else "base",
            **self.identity,
            strategy=self.data.strategy,
            template=self.template.name,
            template_sha256=self.template.sha256,
            data=self.data.fingerprint,
            settings=asdict(self.settings),
            validation={
                "lists": len(self._validation(state)),
                "control": state.control,
                "base": state.ndcg[0],
                "tuned": state.ndcg[state.best],
                "step": state.best,
            },
            gate=state.gate,
            versions={name: version(name) for name in ("llmrec", "torch", "transformers")},
        ).save(self.out, self.lora or self.model, self.base.tokenizer)
