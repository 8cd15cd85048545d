from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec.catalog import MediaError
from llmrec.errors import ModelError
from llmrec.items import VectorCache
from llmrec.items.sounds import SoundEncoder, embed_sounds, open_sound

pytest.importorskip("av")


def tone(path: Path, hertz: float, seconds: float = 1.0, rate: int = 22_050) -> Path:
    """Write a tone on two channels."""
    time = np.arange(int(seconds * rate)) / rate
    wanted = (np.sin(2 * np.pi * hertz * time) * 16_000).astype("<i2")
    with wave.open(str(path), "wb") as sound:
        sound.setparams((2, 2, rate, 0, "NONE", ""))
        sound.writeframes(np.repeat(wanted, 2).tobytes())
    return path


def test_a_sound_comes_at_the_model_s_rate_on_one_channel(tmp_path: Path) -> None:
    heard = open_sound(tone(tmp_path / "x.wav", 440, seconds=2), 16_000)
    assert heard.dtype == np.float32
    assert heard.shape == (32_000,)
    assert np.abs(heard).max() == pytest.approx(16_000 / 32_768, abs=0.05)
    assert np.argmax(np.abs(np.fft.rfft(heard))) / 2 == pytest.approx(440, abs=2)


def test_no_more_than_the_beginning_is_decoded(tmp_path: Path) -> None:
    assert len(open_sound(tone(tmp_path / "x.wav", 440, seconds=9), 8_000, seconds=0.5)) == 4_000


def test_every_fault_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound at all " * 40)
    tone(tmp_path / "short.wav", 440, seconds=0.01)
    faults = {
        "empty.wav": "cannot be decoded",
        "text.wav": "cannot be decoded",
        "short.wav": "nothing is heard",
        "missing.wav": "There is no file",
    }
    for name, fault in faults.items():
        with pytest.raises(MediaError, match=fault):
            open_sound(tmp_path / name, 16_000)


def save_wav2vec2(folder: Path) -> None:
    from transformers import (  # noqa: PLC0415
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
    )

    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(folder)


def save_clap(folder: Path) -> None:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel  # noqa: PLC0415

    side = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 1}
    text = {**side, "num_attention_heads": 2, "vocab_size": 8, "projection_dim": 12}
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "patch_size": 4,
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "window_size": 4,
        "projection_dim": 12,
        "num_hidden_layers": 2,
    }
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    ClapModel(config).save_pretrained(folder)
    extractor = ClapFeatureExtractor(
        feature_size=16,
        max_length_s=1,
        sampling_rate=16_000,
        frequency_max=8_000,
        truncation="rand_trunc",
    )
    extractor.save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "dimension"), [(save_wav2vec2, 16), (save_clap, 12)], ids=["wav2vec2", "clap"]
)
def test_models_of_transformers_embed_sounds(tmp_path: Path, save: object, dimension: int) -> None:
    """Tiny random models of both families."""
    torch.manual_seed(0)
    folder = tmp_path / "tiny"
    assert callable(save)
    save(folder)
    cache = VectorCache(tmp_path / "vectors.sqlite3")
    encoder = SoundEncoder.from_pretrained(str(folder), device="cpu", cache=cache)
    (tmp_path / "empty.wav").write_bytes(b"")
    low, high = tone(tmp_path / "low.wav", 200), tone(tmp_path / "high.wav", 3000)
    found = embed_sounds(encoder, [low, None, tmp_path / "empty.wav", high])
    assert (found.name, found.encoder[:5]) == ("audio", "tiny@")
    assert found.vectors.shape == (4, dimension)
    assert found.present.tolist() == [True, False, False, True]
    assert set(found.gaps) == {2}
    np.testing.assert_allclose(np.linalg.norm(found.vectors[[0, 3]], axis=1), 1.0, rtol=1e-5)
    assert np.abs(found.vectors[0] - found.vectors[3]).max() > 1e-4
    assert encoder.dimension == dimension
    alone = embed_sounds(SoundEncoder(encoder.model, encoder.extractor, encoder.name), [high])
    np.testing.assert_array_equal(alone.vectors[0], found.vectors[3])


def test_a_sound_longer_than_the_model_reads_has_one_vector(tmp_path: Path) -> None:
    """CLAP's own extractor would cut a piece out at random."""
    torch.manual_seed(0)
    save_clap(tmp_path)
    encoder = SoundEncoder.from_pretrained(
        str(tmp_path), device="cpu", cache=VectorCache(tmp_path / "vectors.sqlite3")
    )
    sound = open_sound(tone(tmp_path / "x.wav", 300, seconds=3.2), encoder.rate)
    sound *= np.linspace(0, 1, len(sound), dtype=np.float32)
    np.testing.assert_array_equal(encoder.encode([sound]), encoder.encode([sound]))


def test_a_text_model_is_refused(minilm_folder: Path) -> None:
    with pytest.raises(ModelError, match="no encoder of sounds"):
        SoundEncoder.from_pretrained(str(minilm_folder), device="cpu")
