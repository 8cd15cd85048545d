"""Tuning of a language model on titles in order or on lists of candidates; resumes exactly.

The loop is our own: several prompts in one row under a block mask, a gate that is learned beside
the model, and validation of the gated score are no part of transformers' ``Trainer``, and what
would be left of it is the loop below.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import PreTrainedModel

from llmrec.errors import DataError, ModelError, OutOfMemoryError
from llmrec.models.adapter import (
    AdapterRecord,
    add_lora,
    apply_adapter,
    check_base,
    tokenizer_fingerprint,
    weights_fingerprint,
)
from llmrec.models.prefix_scoring import input_device
from llmrec.models.transformers_model import TransformersModel
from llmrec.prompting import Template
from llmrec.reranking.gate import RETRIEVAL
from llmrec.training.gated_validation import (
    FIXED,
    LEARNED,
    Limits,
    Validated,
    columns,
    gate_lists,
    title_priors,
    validate,
)
from llmrec.training.packed_rows import (
    SAME_GRADIENT,
    Segment,
    batches_of,
    gradient_difference,
    longer_than_window,
    segment_scores,
)
from llmrec.training.tracking import Tracker
from llmrec.training.tuning_data import TuningData, TuningList
from llmrec.training.tuning_settings import TuningSettings
from llmrec.training.tuning_state import TuningState, load_state, save_state

logger = logging.getLogger(__name__)

_WARM_UP = 0.05
"""Share of the steps over which the learning rate rises."""
_MAX_GRADIENT_NORM = 1.0
_CHECKPOINT = "checkpoint.safetensors"
_CHECKPOINT_SECONDS = 120.0
_FEWEST_VALIDATION = 20
_COLLAPSED = 0.5
"""Share of validation lists without any difference between titles from which training stops."""
_LENGTH_OF_RUN = ("patience",)
"""Settings that end a training and do not change a step: they may differ on resuming."""


@dataclass(frozen=True)
class Tuned:
    """A tuning's result.

    ``finished`` is False where the time ran out: the same call goes on. ``best`` is the step whose
    weights are kept, 0 for the base; ``ndcg`` has nDCG@10 of the gated validation lists by step,
    ``control`` the same without a language model. ``fallbacks`` counts what did not go as usual.
    """

    finished: bool
    step: int
    steps: int
    best: int
    ndcg: Mapping[int, float]
    control: float
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
    progress: bool = False,
    tracker: Tracker | None = None,
) -> Tuned:
    """Tune a model's weights in place, and write the adapter of the best validation to a folder.

    The same call on the same folder resumes a killed or ended run. The base is kept where no
    validation was above its own.

    Args:
        model: The base, just loaded; in fp32 for full weights.
        data: Windows or lists, and validation lists.
        template: Of the data's prompts.
        out: Folder of adapter and checkpoint.
        settings: None takes the defaults.
        start: An adapter of the same base to go on from, such as one of another objective.
        minutes: Stop after so many, with a checkpoint.
        progress: Show a bar on stderr, where that is a terminal.
        tracker: Receives loss and validation.

    Raises:
        DataError: There is nothing to train on, or too little to validate on.
        ModelError: The model has no layers for LoRA, or the loss is not finite.
        StorageError: The folder cannot be used, or holds the checkpoint of another training.
        OutOfMemoryError: Not even one row fits.
    """
    started = time.monotonic()
    settings = (settings or TuningSettings()).checked()
    _check(data, settings)
    run = _Run.begin(model, data, template, settings, out, start)
    state = run.resume()
    spent = state.seconds

    def seconds() -> float:
        return spent + time.monotonic() - started

    if not state.ndcg:
        run.judge(state)
        if tracker:
            tracker.log({"validation/ndcg@10": state.ndcg[0], "control": state.control}, step=0)
    every = max(1, math.ceil(run.steps / settings.validations))
    saved = time.monotonic()
    hidden = None if progress else True
    bar = tqdm(total=run.steps, initial=state.step, desc="Tuning", unit="step", disable=hidden)
    with bar:
        while state.step < run.steps and not state.ended:
            if minutes is not None and time.monotonic() - started > 60 * minutes:
                state.seconds = seconds()
                run.save(state)
                return _result(state, run.steps, finished=False)
            loss, tokens, took = run.train_step(state)
            state.step += 1
            metrics = {"loss": loss, "tokens_a_second": tokens / took}
            if state.step % every == 0 or state.step == run.steps:
                run.judge(state)
                metrics["validation/ndcg@10"] = state.ndcg[state.step]
                waited = sum(step > state.best for step in state.ndcg)
                state.ended |= bool(settings.patience) and waited >= settings.patience
            if tracker:
                tracker.log({**metrics, **run.offset_weights()}, step=state.step)
            bar.set_postfix_str(f"loss {loss:.3f}, best nDCG@10 {state.ndcg[state.best]:.4f}")
            bar.update()
            if time.monotonic() - saved > _CHECKPOINT_SECONDS:
                state.seconds = seconds()
                run.save(state)
                saved = time.monotonic()
    state.ended = True
    state.seconds = seconds()
    run.save(state)
    run.write_adapter(state)
    return _result(state, run.steps, finished=True)


def _result(state: TuningState, steps: int, *, finished: bool) -> Tuned:
    return Tuned(
        finished,
        state.step,
        steps,
        state.best,
        dict(state.ndcg),
        state.control,
        state.seconds,
        dict(state.fallbacks),
    )


def _check(data: TuningData, settings: TuningSettings) -> None:
    if settings.objective == "next-title" and not data.windows:
        raise DataError("There are no histories to train on.", hint="Add an interactions file.")
    if settings.objective == "list" and not data.lists:
        raise DataError(
            "No training list holds its target among the candidates.",
            hint="Retrieve more candidates, or take the objective next-title.",
        )
    if len(data.validation) < _FEWEST_VALIDATION:
        raise DataError(
            f"{len(data.validation)} validation lists hold their target; {_FEWEST_VALIDATION} or "
            "more are needed to choose between the tuned model and its base.",
            hint="Give more users with four items or more, or retrieve more candidates.",
        )


@dataclass
class _Run:
    """Model, data and optimizer of one tuning."""

    base: TransformersModel
    model: PreTrainedModel
    data: TuningData
    template: Template
    settings: TuningSettings
    out: Path
    offset: nn.ParameterDict
    optimizer: torch.optim.Optimizer
    limits: Limits
    whole: bool
    lora: Any
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
    ) -> _Run:
        torch.manual_seed(settings.seed)
        model = base.model
        if base.adapter is not None or any("lora_" in name for name, _ in model.named_parameters()):
            raise ModelError(
                f"{base.name} is tuned already.",
                hint="Load the base again; start= goes on from an adapter.",
            )
        identity = {
            "base": f"{base.name}@{base.revision}",
            "base_weights": weights_fingerprint(model),
            "tokenizer": tokenizer_fingerprint(base.tokenizer),
        }
        if start is not None:
            check_base(start, model, base.tokenizer)
        lora = None
        if settings.weights == "lora":
            lora = add_lora(model, settings.rank, start)
        else:
            if start is not None:
                model = apply_adapter(model, base.tokenizer, start)
            model.requires_grad_(requires_grad=True)
        model.train()
        device = input_device(model)
        offset = nn.ParameterDict(
            {
                "fixed": nn.Parameter(torch.zeros(len(FIXED), device=device)),
                "learned": nn.Parameter(torch.zeros(len(LEARNED), device=device)),
            }
        )
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [{"params": trained, "base_rate": settings.rate}]
        if settings.objective == "list":
            groups.append({"params": list(offset.values()), "base_rate": settings.offset_rate})
        optimizer = torch.optim.AdamW(groups, lr=settings.rate, weight_decay=0.0)
        apart = gradient_difference(model)
        lists = (*data.lists, *data.validation)
        sizes = [*map(len, data.windows), *(len(entry.prompt) for entry in lists)]
        exact = model.dtype == torch.float32
        whole = not apart <= (SAME_GRADIENT if exact else 0.1)
        whole = whole or longer_than_window(model, max(sizes) + max(map(len, data.titles.values())))
        if whole:
            logger.warning(
                "%s cannot share prompts under gradients (relative difference %.2g): every row is "
                "forwarded whole.",
                type(model).__name__,
                apart,
            )
        limits = Limits.of(model)
        return cls(
            base, model, data, template, settings, out, offset, optimizer, limits, whole, lora,
            identity,
        )  # fmt: skip

    @property
    def steps_an_epoch(self) -> int:
        """Steps of one pass."""
        if self.settings.objective == "list":
            return math.ceil(len(self.data.lists) / self.settings.step_lists)
        return math.ceil(sum(map(len, self.data.windows)) / self.settings.step_tokens)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_an_epoch * self.settings.epochs

    def trained(self) -> dict[str, Tensor]:
        """Everything that is trained, by name."""
        named = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        return {**named, **{f"offset.{name}": p for name, p in self.offset.items()}}

    def offset_weights(self) -> dict[str, float]:
        """The offset's weights that are in use, by feature."""
        if self.settings.objective != "list" or self.settings.offset == "none":
            return {}
        fixed = dict(zip(FIXED, self.offset["fixed"].tolist(), strict=True))
        if self.settings.offset == "retriever":
            return {RETRIEVAL: fixed[RETRIEVAL]}
        return {**fixed, **dict(zip(LEARNED, self.offset["learned"].tolist(), strict=True))}

    # Steps

    def train_step(self, state: TuningState) -> tuple[float, int, float]:
        """Train on a step's windows or lists; its loss, tokens and seconds."""
        began = time.monotonic()
        epoch, place = divmod(state.step, self.steps_an_epoch)
        progress = (state.step + 1) / self.steps
        warm = min(1.0, progress / _WARM_UP)
        factor = warm * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_rate"] * factor
        draw = np.random.default_rng((self.settings.seed, epoch))
        if self.settings.objective == "list":
            order = draw.permutation(len(self.data.lists))
            size = self.settings.step_lists
            chosen = order[place * size : (place + 1) * size]
            draw = np.random.default_rng((self.settings.seed, epoch, place))
            entries = [self.data.lists[i].drawn(self.settings.sizes, draw) for i in chosen]
            segments = [self.data.segment(entry) for entry in entries]
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
            raise ModelError(
                f"Training diverged: the loss of step {state.step + 1} is {loss}, its gradient "
                f"{float(norm)}. {self.out} keeps an earlier checkpoint.",
                hint=f"Lower the learning rate, which is {self.settings.rate}.",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss, sum(map(len, segments)), time.monotonic() - began

    def _accumulate(
        self, state: TuningState, segments: Sequence[Segment], entries: Sequence[TuningList]
    ) -> float:
        """Gradients of a step, in as many batches as memory takes."""
        while True:
            try:
                return sum(self._batch_losses(state, segments, entries))
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                self.optimizer.zero_grad(set_to_none=True)
                smaller = self.limits.batch_tokens // 2
                if smaller < max(map(len, segments)) // 2:
                    raise OutOfMemoryError(
                        f"{2 * smaller:,} tokens do not fit into memory under gradients.",
                        hint="Take LoRA, a smaller model, or shorter histories.",
                    ) from error
                self.limits = replace(self.limits, batch_tokens=smaller)
                state.count("batch_halved")
                logger.warning("out of memory: %d tokens at once, the same step", smaller)

    def _batch_losses(
        self, state: TuningState, segments: Sequence[Segment], entries: Sequence[TuningList]
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
                scores = segment_scores(self.model, rows, whole=self.whole)
            if entries:
                total = self._list_loss(scores, [entries[number] for number in numbers], state)
            else:
                total = -torch.cat(scores).sum()
            loss = total * weight
            loss.backward()
            yield float(loss.detach())

    def _list_loss(
        self, scores: Sequence[Tensor], entries: Sequence[TuningList], state: TuningState
    ) -> Tensor:
        """Summed cross-entropy of the targets."""
        device, offset = scores[0].device, self.settings.offset
        lists = gate_lists(self.data, entries, state.priors)
        there = torch.from_numpy(lists.there).to(device)
        logits = pad_sequence(list(scores), batch_first=True)
        if offset != "none":
            table = columns(self.data, lists, FIXED)
            known = torch.from_numpy(table).float().to(device)
        if offset == "retriever":
            logits = logits + known[..., 0] * self.offset["fixed"][0]
        elif offset == "gate":
            popular = (np.log1p(lists.popularity) - self.data.scale[0]) / self.data.scale[1]
            rarity = torch.from_numpy(np.nan_to_num(popular)).float().to(device)
            sizes = there.sum(1, keepdim=True)
            centred = (logits - logits.sum(1, keepdim=True) / sizes) * there
            spread = (centred.square().sum(1, keepdim=True) / sizes).sqrt().clamp_min(1e-6)
            main, product = self.offset["learned"]
            logits = known @ self.offset["fixed"] + centred / spread * (main + product * rarity)
        targets = torch.tensor([entry.target for entry in entries], device=device)
        return nn.functional.cross_entropy(
            logits.masked_fill(~there, -torch.inf), targets, reduction="sum"
        )

    # Validation

    def judge(self, state: TuningState) -> None:
        """Validate; keep the weights if they are the best so far."""
        self.model.eval()
        found: Validated = validate(
            self.model, self.data, self.limits, seed=self.settings.seed, whole=self.whole
        )
        if state.step == 0 and self.settings.objective == "list":
            state.priors = title_priors(
                self.model, self.data, self.data.lists, self.limits, whole=self.whole
            )
            self._start_offset(found.weights)
        self.model.train()
        if found.collapsed > _COLLAPSED:
            logger.warning(
                "step %d: all titles are equally likely in %.0f %% of the validation lists: the "
                "model collapsed, training stops",
                state.step,
                100 * found.collapsed,
            )
            state.count("collapsed")
            state.ended = True
        state.ndcg[state.step], state.control = found.ndcg, float(found.control.mean())
        if state.step == 0 or found.ndcg > state.ndcg[state.best]:
            state.best, state.gate = state.step, dict(found.weights)
            state.best_weights = {
                name: value.detach().to("cpu", copy=True)
                for name, value in self.trained().items()
                if state.step
            }

    def _start_offset(self, weights: Mapping[str, float]) -> None:
        """Begin at the gate of the untuned model."""
        for part, names in (("fixed", FIXED), ("learned", LEARNED)):
            given = torch.tensor([weights[name] for name in names])
            with torch.no_grad():
                self.offset[part].copy_(given)

    # Files

    def settings_document(self) -> dict[str, Any]:
        """What a step depends on."""
        kept = {n: v for n, v in asdict(self.settings).items() if n not in _LENGTH_OF_RUN}
        known = {**kept, "sizes": list(self.settings.sizes), "torch": torch.__version__}
        return {**known, **self.identity, "data": self.data.fingerprint}

    def save(self, state: TuningState) -> None:
        """Replace the checkpoint."""
        path = self.out / _CHECKPOINT
        save_state(path, state, self.trained(), self.optimizer, self.settings_document())

    def resume(self) -> TuningState:
        """Load the checkpoint, where there is one."""
        path = self.out / _CHECKPOINT
        return load_state(path, self.trained(), self.optimizer, self.settings_document())

    def write_adapter(self, state: TuningState) -> None:
        """Write the best weights with what they are for, and leave the model with them."""
        if state.best:
            with torch.no_grad():
                for name, parameter in self.trained().items():
                    parameter.copy_(state.best_weights[name])
        AdapterRecord(
            kind=self.settings.weights if state.best else "base",
            **self.identity,
            strategy="likelihood",
            template=self.template.name,
            template_sha256=self.template.sha256,
            data=self.data.fingerprint,
            settings=asdict(self.settings),
            validation={
                "lists": len(self.data.validation),
                "control": state.control,
                "base": state.ndcg[0],
                "tuned": state.ndcg[state.best],
                "step": state.best,
            },
            gate=state.gate,
            versions={name: version(name) for name in ("llmrec", "torch", "transformers")},
        ).save(self.out, self.lora or self.model, self.base.tokenizer)
