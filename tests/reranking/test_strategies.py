from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.errors import ModelError, OptionError, PromptError, PromptTooLongError
from llmrec.models import LanguageModel, TransformersModel
from llmrec.models.labels import label_tokens
from llmrec.models.prompt_tokenizer import PromptTokenizer
from llmrec.prompting import Budget, Context, load_template
from llmrec.records import Interaction, Item, User
from llmrec.reranking import (
    STRATEGIES,
    Judgement,
    Likelihood,
    Pointwise,
    Question,
    Strategy,
    judge,
    make_strategy,
)
from llmrec.reranking.strategy import Conversation
from llmrec.retrieval import Index
from tests.prompting.writing import written
from tests.reranking.conftest import ByteModel

DAY, BIKE = "Seven Days in May", "A Guide to Bicycle Repair"
FILMS = ["Jaws", "Jurassic Park", "E.T. the Extra-Terrestrial", "Raiders of the Lost Ark"]


def question(titles: list[str], history: list[str]) -> Question:
    items = {str(n): Item(str(n), title) for n, title in enumerate([*history, *titles])}
    seen = tuple(Interaction("u", str(n), 5.0, n) for n in range(len(history)))
    candidates = tuple(items[str(n)] for n in range(len(history), len(items)))
    return Question(User("u", seen), candidates, Context(items))


def judged_by(strategy: Strategy, model: LanguageModel, asked: Question) -> Judgement:
    (judgement,) = judge(model, strategy, [asked])
    return judgement


def whole(model: TransformersModel, prompt: list[int], after: list[int]) -> float:
    """Sum of log-probabilities by an ordinary forward, without the engine."""
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([[*prompt, *after]])).logits[0]
    log_probs = logits.log_softmax(-1)
    return sum(float(log_probs[len(prompt) - 1 + i, token]) for i, token in enumerate(after))


def test_likelihood_is_that_of_the_title_right_after_the_text(smollm2: TransformersModel) -> None:
    asked = question(["Close Encounters", BIKE], FILMS)
    judged = judged_by(Likelihood(prior_weight=0), smollm2, asked)
    rendered = written(
        load_template("likelihood/numbered"),
        user=asked.user,
        context=asked.context,
        items=asked.context.items,
        candidates=(),
        tokenizer=smollm2,
    )
    text = rendered.prompts[0].text
    assert text is not None
    assert text.endswith("\n5. ")
    prompt = smollm2.encode(text.removesuffix(" "))
    for score, title in zip(judged.scores, ["Close Encounters", BIKE], strict=True):
        title_and_end = smollm2.encode(f" {title}\n")
        assert score == pytest.approx(whole(smollm2, prompt, title_and_end), abs=1e-3)


def test_a_chat_s_title_is_scored_with_the_end_of_turn(smollm2: TransformersModel) -> None:
    strategy = Likelihood(load_template("likelihood/chat-next"))
    asked = question(["Toy Story", "Toy Story 2"], FILMS)
    judged = judged_by(strategy, smollm2, asked)
    rendered = written(
        strategy.template,
        user=asked.user,
        context=asked.context,
        items=asked.context.items,
        candidates=(),
        tokenizer=smollm2,
    )
    prompt = smollm2.encode_prompts([rendered.prompts[0]])[0].tolist()
    end = smollm2.tokenizer.added_tokens_encoder["<|im_end|>"]
    title = [*smollm2.encode("Toy Story 2"), end]
    assert judged.parts["conditional"][1] == pytest.approx(whole(smollm2, prompt, title), abs=1e-3)
    assert judged.parts["length"].tolist() == [4, 6]


def test_parts_of_likelihood_make_its_score(smollm2: TransformersModel) -> None:
    titles = ["Toy Story", "Toy Story 2", "\u200b"]
    judged = judged_by(Likelihood(), smollm2, question(titles, ["Toy Story 3", "Toy Story 4"]))
    parts = judged.parts
    assert judged.scores == pytest.approx(parts["conditional"] - parts["prior"] / 2, nan_ok=True)
    assert np.isnan([values[2] for values in parts.values()]).all()
    # With its end, a title is no more probable than every longer one that it begins.
    assert parts["conditional"][1] > parts["conditional"][0]
    assert set(judged_by(Likelihood(prior_weight=0), smollm2, question(titles, FILMS)).parts) == {
        "conditional",
        "length",
    }


def test_likelihood_follows_the_history(smollm2: TransformersModel) -> None:
    repairs = ["Home Plumbing Basics", "The Complete Book of Carpentry", "Wiring a House"]
    titles = ["Indiana Jones and the Temple of Doom", BIKE]
    after_films = judged_by(Likelihood(), smollm2, question(titles, FILMS)).scores
    after_repairs = judged_by(Likelihood(), smollm2, question(titles, repairs)).scores
    assert after_films[0] - after_films[1] > after_repairs[0] - after_repairs[1]


def test_chat_likelihood_shares_the_prompt_once(smollm2: TransformersModel) -> None:
    strategy = Likelihood(load_template("likelihood/chat-next"), prior_weight=0)
    judged = judged_by(strategy, smollm2, question([DAY, BIKE], FILMS))
    assert judged.usage.tokens_forwarded < 0.6 * judged.usage.tokens_given


def test_the_prior_is_asked_once_a_title_and_subtracted() -> None:
    model = ByteModel(score=lambda before, token: -1.0 - (token == ord("J")) * len(before) / 100)
    asked = question(["Jaws", "Diva"], ["Alien"])
    plain = judged_by(Likelihood(prior_weight=0), model, asked).scores
    corrected = Likelihood(prior_weight=1)
    first = judged_by(corrected, model, asked).scores
    before = len(model.asked)
    again = judged_by(corrected, model, asked).scores
    assert len(model.asked) - before == 2
    assert first.tolist() == again.tolist()
    assert first[1] == pytest.approx(0)
    assert first[0] != plain[0]


@pytest.mark.parametrize(("power", "expected"), [(0, [-6.0, -8.0]), (1, [-1.0, -1.0])])
def test_length_correction(power: float, expected: list[float]) -> None:
    strategy = Likelihood(prior_weight=0, length_power=power)
    scores = judged_by(strategy, ByteModel(), question(["Jaws", "Brazil"], ["Alien"])).scores
    assert scores.tolist() == pytest.approx(expected)  # bytes with the space and the line break


def test_empty_title_is_unscored() -> None:
    scores = judged_by(Likelihood(), ByteModel(), question(["Jaws", "\u200b"], ["Alien"])).scores
    assert np.isfinite(scores[0])
    assert np.isnan(scores[1])


@pytest.mark.parametrize("title", ["挪威的森林", "مئة عام من العزلة", "🎬🍿", "x" * 100_000])
def test_any_script_and_any_length_is_scored(smollm2: TransformersModel, title: str) -> None:
    scores = judged_by(Likelihood(), smollm2, question([title, "Jaws"], FILMS)).scores
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("settings", [{"prior_weight": -1}, {"length_power": float("inf")}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(OptionError, match=next(iter(settings))):
        Likelihood(**settings)  # type: ignore[arg-type]


def test_pointwise_is_the_log_odds_of_all_single_token_spellings(
    smollm2: TransformersModel,
) -> None:
    asked = question([DAY], FILMS)
    judged = judged_by(Pointwise(), smollm2, asked)
    rendered = written(
        load_template("pointwise/plain-list"),
        user=asked.user,
        items=asked.context.items,
        candidates=asked.candidates,
        tokenizer=smollm2,
    )
    prompt = smollm2.encode_prompts([rendered.prompts[0]])[0].tolist()
    with torch.inference_mode():
        last = smollm2.model(input_ids=torch.tensor([prompt])).logits[0, -1]
    yes = last[list(label_tokens(smollm2, "Yes"))].logsumexp(0)
    no = last[list(label_tokens(smollm2, "No"))].logsumexp(0)
    assert judged.scores[0] == pytest.approx(float(yes - no), abs=1e-3)


def test_labels_are_all_their_spellings_once(smollm2: TransformersModel) -> None:
    spelled = {smollm2.tokenizer.decode([token]) for token in label_tokens(smollm2, "Yes")}
    assert {"Yes", " Yes", "yes", " yes"} <= spelled


def test_a_tokenizer_without_the_label_is_refused() -> None:
    with pytest.raises(ModelError, match="no single token for 'Maybe'"):
        label_tokens(ByteModel(), "Maybe")


@pytest.mark.parametrize(("strategy", "room"), [(Likelihood(), 150), (Pointwise(), 360)])
def test_a_history_that_does_not_fit_is_shortened_and_counted(
    strategy: Likelihood | Pointwise, room: int, index: Index
) -> None:
    history = tuple(Interaction("u", f"i{n % 8}", 5.0, n) for n in range(20))
    asked = Question(User("u", history), (index.items["i2"],), Context(index.items))
    model = ByteModel()
    model.max_length = room
    judged = judged_by(strategy, model, asked)
    assert judged.fallbacks["history_shortened"] > 0
    assert all(len(sequence.tokens) <= model.max_length for sequence in model.asked)


@pytest.mark.parametrize("strategy", [Likelihood(), Pointwise()])
def test_a_model_too_small_for_the_template_is_a_clear_error(
    strategy: Likelihood | Pointwise, user: User, index: Index
) -> None:
    model = ByteModel()
    model.max_length = 40
    asked = Question(user, (index.items["i2"],), Context(index.items), Budget(title=8))
    with pytest.raises(PromptTooLongError, match=strategy.template.name):
        judged_by(strategy, model, asked)


def test_labels_that_are_one_token_are_refused(user: User, index: Index) -> None:
    class Illiterate(ByteModel):
        def encode(self, text: str) -> list[int]:
            return [0]

    with pytest.raises(ModelError, match="one token for Yes and No"):
        judged_by(
            Pointwise(), Illiterate(), Question(user, (index.items["i2"],), Context(index.items))
        )


@pytest.mark.parametrize("options", [{}, {"calibrate": True}, {"shuffles": 2}], ids=str)
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_tokenizer_is_enough_to_write_the_first_prompts(
    name: str, options: dict[str, bool], smollm2: TransformersModel
) -> None:
    reader = PromptTokenizer(smollm2.tokenizer, smollm2.name)
    asked = question(["Close Encounters", BIKE, DAY], FILMS)
    first = next(make_strategy(name, **options).ask(asked, reader))  # type: ignore[arg-type]
    assert first


@pytest.mark.parametrize(
    ("strategy", "text", "fault"),
    [
        ("pointwise", "Would they like it? Yes or No?", "must read 'item'"),
        ("likelihood", "{{ item.title }} after {{ history | length }}:", "must not read 'item'"),
        ("listwise", "{% for item in items %}{{ item.title }}{% endfor %}", "label of every item"),
        (
            "setwise",
            "{% for item in items[:1] %}{{ item.label }} {{ item.title }}{% endfor %}",
            "label of every item",
        ),
        ("likelihood", " ", "renders nothing"),
        (
            "listwise",
            "{{ history[0].title }}{% for item in items %}{{ item.title }}{% endfor %}",
            "label of every item",
        ),
    ],
)
@pytest.mark.parametrize("folder", ["", "any"])
def test_template_with_meaningless_answers_is_refused(
    tmp_path: Path, folder: str, strategy: str, text: str, fault: str
) -> None:
    path = tmp_path / (folder or strategy) / "mine.jinja"
    path.parent.mkdir()
    path.write_text(f"{{# Mine. #}}\n{{% block text %}}\n{text}\n{{% endblock %}}\n")
    with pytest.raises(PromptError, match=fault):
        make_strategy(strategy, str(path))


def test_options_without_effect_warn_and_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert make_strategy("likelihood", calibrate=True).key == Likelihood().key
        assert make_strategy("pointwise", shuffles=3).key == Pointwise().key
    first, second = caplog.messages
    assert "no effect on likelihood" in first
    assert "pointwise shows one candidate per prompt" in second


@dataclass(frozen=True)
class _Told:
    """A strategy that asks nothing."""

    scores: tuple[float, ...]
    name: str = "told"
    key: str = "told"

    def ask(self, question: Question, model: LanguageModel) -> Conversation[Judgement]:
        yield from ()
        return Judgement(np.array(self.scores))


def test_infinite_scores_are_unscored_and_counted(smollm2: TransformersModel) -> None:
    asked = question(["Close Encounters", BIKE, DAY], FILMS)
    judged = judged_by(_Told((np.inf, 1.0, -np.inf)), smollm2, asked)
    np.testing.assert_array_equal(judged.scores, [np.nan, 1.0, np.nan])
    assert judged.fallbacks == {"infinite": 2}
