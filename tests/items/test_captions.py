from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from llmrec.content_cache import ContentCache
from llmrec.errors import ModelError, ModelNotFoundError
from llmrec.items.captions import (
    MOST_CHARACTERS,
    Captioner,
    ClassCaptioner,
    caption_from_classes,
    caption_pictures,
    load_captioner,
    one_line,
)
from llmrec.models import resolve
from llmrec.records import Caption, CaptionSource, Item


class Sizes:
    """Says how wide a picture is; nothing of one that is 16 wide. Counts what it was asked."""

    name = "sizes@1"
    batch_size = 2

    def __init__(self) -> None:
        self.asked = 0

    def describe(self, pictures: Sequence[Image.Image]) -> list[Caption | None]:
        self.asked += len(pictures)
        return [
            None if one.width == 16 else Caption(f"{one.width} wide", CaptionSource.MODEL)
            for one in pictures
        ]


def shop(folder: Path) -> list[Item]:
    for width in (16, 20, 30):
        Image.new("RGB", (width, 20)).save(folder / f"{width}.png")
    (folder / "text.jpg").write_text("no picture")
    return [
        Item("given", image="text.jpg", attributes={"caption": "A red shoe"}),
        Item("wide", image="20.png"),
        Item("same", image="20.png"),
        Item("wider", image="30.png"),
        Item("nothing", image="16.png"),
        Item("broken", image="text.jpg"),
        Item("missing", image="missing.jpg"),
        Item("none"),
    ]


def test_captions_are_given_or_written_and_faults_are_gaps(tmp_path: Path) -> None:
    found = caption_pictures(Sizes(), shop(tmp_path), tmp_path)
    assert found.by_item == {
        "given": Caption("A red shoe", CaptionSource.GIVEN),
        "wide": Caption("20 wide", CaptionSource.MODEL),
        "same": Caption("20 wide", CaptionSource.MODEL),
        "wider": Caption("30 wide", CaptionSource.MODEL),
    }
    assert set(found.gaps) == {"broken", "missing"}
    assert "is no picture" in found.gaps["broken"]
    assert (found.computed, found.cached) == (3, 0)


def test_captions_are_cached_by_content_even_empty_ones(tmp_path: Path) -> None:
    items, cache = shop(tmp_path), ContentCache(tmp_path / "insights.sqlite3")
    first = caption_pictures(Sizes(), items, tmp_path, cache=cache)
    reader = Sizes()
    again = caption_pictures(reader, items, tmp_path, cache=cache)
    assert reader.asked == 0
    assert (again.computed, again.cached) == (0, 3)
    assert again.by_item == first.by_item


@pytest.mark.parametrize(
    "row",
    [b"", b"{", b"[]", b"{}", b"5", b"\xff", b"NaN", b"[" * 900 + b"]" * 900,
     b'{"text": 5, "source": "model"}', b'{"text": "x", "source": "rumour"}'],
)  # fmt: skip
def test_a_damaged_row_of_the_cache_is_computed_again(tmp_path: Path, row: bytes) -> None:
    items, cache = shop(tmp_path), ContentCache(tmp_path / "insights.sqlite3")
    kept: dict[str, bytes] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContentCache, "put_many", lambda _, contents: kept.update(contents))
        first = caption_pictures(Sizes(), items, tmp_path, cache=cache)
    cache.put_many({**kept, next(iter(kept)): row})
    again = caption_pictures(Sizes(), items, tmp_path, cache=cache)
    assert again.by_item == first.by_item
    assert (again.computed, again.cached) == (1, len(kept) - 1)


def test_an_interrupted_run_continues_where_it_stopped(tmp_path: Path) -> None:
    class Interrupted(Sizes):
        def describe(self, pictures: Sequence[Image.Image]) -> list[Caption | None]:
            if self.asked:
                raise KeyboardInterrupt
            return super().describe(pictures)

    items, cache = shop(tmp_path), ContentCache(tmp_path / "insights.sqlite3")
    with pytest.raises(KeyboardInterrupt):
        caption_pictures(Interrupted(), items, tmp_path, cache=cache)
    assert caption_pictures(Sizes(), items, tmp_path, cache=cache).cached == 2


def test_classes_are_named_with_how_sure_it_is() -> None:
    names = ["jersey", "sweatshirt", "clog", "crane"]
    caption = caption_from_classes(names, np.array([0.41, 0.22, 0.19, 0.01]))
    assert caption == Caption("perhaps: jersey (41 %), sweatshirt (22 %)", CaptionSource.CLASSES)
    assert caption_from_classes(names, np.array([0.19, 0.19, 0.19, 0.19])) is None


def test_captions_become_one_bounded_line() -> None:
    assert one_line("  A\nred\t shoe.\x00\u202e ") == "A red shoe."
    cut = one_line("word " * 200)
    assert len(cut) <= MOST_CHARACTERS
    assert cut.endswith("word…")
    assert one_line("\n ") == ""


SIDE = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def tokenizer(*special: str) -> Any:  # noqa: ANN401
    """Bytes as tokens, and the special ones of a model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    vocabulary = {char: n for n, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    whole = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=whole,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        sep_token="<sep>",
    )
    made.add_special_tokens({"additional_special_tokens": list(special)})
    return made


def ids(made: Any) -> dict[str, int]:  # noqa: ANN401
    return {
        "vocab_size": len(made),
        "bos_token_id": made.bos_token_id,
        "eos_token_id": made.eos_token_id,
        "pad_token_id": made.pad_token_id,
    }


def save_blip(folder: Path) -> None:
    from transformers import (  # noqa: PLC0415
        BlipConfig,
        BlipForConditionalGeneration,
        BlipProcessor,
    )
    from transformers.models.blip.image_processing_pil_blip import (  # noqa: PLC0415
        BlipImageProcessorPil,
    )

    made = tokenizer()
    text = {**SIDE, **ids(made), "encoder_hidden_size": 32, "sep_token_id": made.sep_token_id}
    vision = {**SIDE, "image_size": 32, "patch_size": 16}
    config = BlipConfig(text_config=text, vision_config=vision)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    pictures = BlipImageProcessorPil(size={"height": 32, "width": 32})
    BlipProcessor(pictures, made).save_pretrained(folder)


def save_idefics3(folder: Path) -> None:
    """The class of SmolVLM-256M."""
    from transformers import (  # noqa: PLC0415
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
    )
    from transformers.models.idefics3.image_processing_pil_idefics3 import (  # noqa: PLC0415
        Idefics3ImageProcessorPil,
    )

    places = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    made = tokenizer("<fake_token_around_image>", "<image>", "<global-img>", *places)
    config = Idefics3Config(
        text_config={**SIDE, **ids(made), "model_type": "llama", "num_key_value_heads": 2},
        vision_config={**SIDE, "image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=made.convert_tokens_to_ids("<image>"),
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}
    )
    Idefics3Processor(pictures, made, image_seq_len=4, chat_template=TEMPLATE).save_pretrained(
        folder
    )


def save_llava(folder: Path) -> None:
    from transformers import (  # noqa: PLC0415
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import (  # noqa: PLC0415
        CLIPImageProcessorPil,
    )

    made = tokenizer("<image>")
    vision = {**SIDE, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16}
    config = LlavaConfig(
        text_config={**SIDE, **ids(made), "model_type": "llama", "num_key_value_heads": 2},
        vision_config={**vision, "num_hidden_layers": 2},
        image_token_index=made.convert_tokens_to_ids("<image>"),
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    LlavaProcessor(
        pictures,
        made,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (60 + 20 * n, 80, 3), dtype=np.uint8))
        for n in range(3)
    ]


@pytest.mark.parametrize("save", [save_blip, save_idefics3, save_llava])
def test_captioners_write_one_line_about_each_picture(tmp_path: Path, save: Any) -> None:  # noqa: ANN401
    """Tiny random models: what they write is noise, how they are asked is not."""
    torch.manual_seed(0)
    save(tmp_path)
    captioner = Captioner.from_pretrained(str(tmp_path), device="cpu")
    captions = captioner.describe(pictures())
    assert len(captions) == 3
    for caption in captions:
        assert caption is None or (caption.source is CaptionSource.MODEL and caption.text)
        assert caption is None or "picture" not in caption.text  # the instruction is left out
    assert any(captions)
    assert captioner.describe(pictures()) == captions


def test_memory_that_does_not_suffice_halves_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    save_blip(tmp_path)
    captioner = Captioner.from_pretrained(str(tmp_path), device="cpu")
    generate = captioner.model.generate

    def small(**given: Any) -> Any:  # noqa: ANN401
        if len(given["pixel_values"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(**given)

    monkeypatch.setattr(captioner.model, "generate", small)
    assert len(captioner.describe(pictures())) == 3
    assert "with 2 pictures at once" in caplog.text


def test_a_processor_that_needs_torchvision_is_named(tmp_path: Path) -> None:
    from transformers import Qwen2VLConfig  # noqa: PLC0415

    try:
        import torchvision  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: F401, PLC0415
    except ImportError:
        pass
    else:
        pytest.skip("torchvision is installed")
    Qwen2VLConfig().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="need the package torchvision"):
        Captioner.from_pretrained(str(tmp_path), device="cpu")


def test_a_text_model_is_no_captioner(minilm_folder: Path) -> None:
    with pytest.raises(ModelError, match="captioning model"):
        Captioner.from_pretrained(str(minilm_folder), device="cpu")


def test_without_a_hub_class_names_replace_captions_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resolve, "hub_answers", lambda: False)
    monkeypatch.setattr(resolve, "cached_snapshot", lambda _hub_id, _revision: None)
    with caplog.at_level(logging.WARNING):
        try:
            captioner = load_captioner(device="cpu")
        except ModelNotFoundError as error:
            pytest.skip(str(error))
    assert isinstance(captioner, ClassCaptioner)
    assert "by their classes instead" in caplog.text
    captions = captioner.describe(pictures())
    assert all(one is None or isinstance(one, Caption) for one in captions)
    with pytest.raises(ModelNotFoundError, match="org/other"):
        load_captioner("org/other")
