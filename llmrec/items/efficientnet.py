"""EfficientNet-Lite0: features and ImageNet class probabilities of pictures, on a small CPU.

The network is that of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks" (2019), in its authors' Lite form: no squeeze-and-excitation, ReLU6, stem and head as they
are. Block table, padding and preprocessing follow their TensorFlow code; parameters are named as in
the PyTorch conversion whose weights are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from llmrec.errors import ModelError

WEIGHTS = "efficientnet-lite0.pth"
"""The file that identifies the packaged model's folder."""

FEATURES = 1280
SIDE = 224
_CROPPED = 0.875  # of the shorter side: 224 of 256
_MEAN, _DEVIATION = 127.0, 128.0
_EPSILON = 1e-3

# Repeats, kernel size, stride of the first, expansion, channels out.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0:
    """Pictures to pooled features [n, 1280] and to probabilities of the 1,000 ImageNet classes.

    Args:
        folder: The packaged model ``efficientnet-lite0``: weights and class names.
        device: Where it runs.

    Raises:
        ModelError: The folder does not hold this model.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        network = _Network()
        try:
            # A .pth file is a pickle: nothing but tensors is taken from it.
            weights = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
            network.load_state_dict(weights)
            self.class_names = _class_names(folder)
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, UnpicklingError) as error:
            raise ModelError(
                f"The folder {str(folder)!r} does not hold EfficientNet-Lite0: {error}",
                hint="Name the packaged model efficientnet-lite0.",
            ) from error
        self._network = network.eval().to(device)
        self._device = device

    def encode(
        self,
        inputs: Sequence[Image.Image],
        *,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,  # noqa: ARG002 - as a SentenceTransformer has it
    ) -> np.ndarray:
        """Return the pooled features of RGB pictures: float32 [n, 1280], not normalised."""
        return self._run(inputs, batch_size)[0]

    def probabilities(self, inputs: Sequence[Image.Image], *, batch_size: int = 32) -> np.ndarray:
        """Return the probability of each class in ``class_names``: float32 [n, 1000]."""
        return self._run(inputs, batch_size)[1]

    def _run(self, inputs: Sequence[Image.Image], batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        features = [np.zeros((0, FEATURES), dtype=np.float32)]
        probabilities = [np.zeros((0, len(self.class_names)), dtype=np.float32)]
        with torch.inference_mode():
            for start in range(0, len(inputs), batch_size):
                pixels = np.stack([prepare(one) for one in inputs[start : start + batch_size]])
                pooled, logits = self._network(torch.from_numpy(pixels).to(self._device))
                features.append(pooled.cpu().numpy())
                probabilities.append(logits.softmax(dim=-1).cpu().numpy())
        return np.concatenate(features), np.concatenate(probabilities)


def prepare(picture: Image.Image) -> np.ndarray:
    """Turn an RGB picture into what the network reads: float32 [3, 224, 224].

    The middle square of seven eighths of the shorter side, bicubic to 224, less 127, by 128: the
    evaluation preprocessing of the authors' code.
    """
    width, height = picture.size
    side = max(1, int(_CROPPED * min(width, height)))
    left, top = (width - side + 1) // 2, (height - side + 1) // 2
    square = picture.resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    pixels: np.ndarray = (np.asarray(square, dtype=np.float32) - _MEAN) / _DEVIATION
    return pixels.transpose(2, 0, 1)


def _class_names(folder: Path) -> tuple[str, ...]:
    """Read the names in the order of the classes: the first of each WordNet synset's lemmas."""
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    lemmas = dict(line.split("\t", 1) for line in lines)
    synsets = (folder / "imagenet_synsets.txt").read_text(encoding="ascii").split()
    return tuple(lemmas[synset].split(",")[0] for synset in synsets)


class _Conv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: the odd pixel goes to the right and the bottom."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as torch names it
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        pads = []
        for size in (input.shape[-1], input.shape[-2]):
            pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(nn.functional.pad(input, pads))


class _Block(nn.Module):
    """An inverted residual: expand, filter each channel, project; added to its input where it fits.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018).
    """

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = _Conv(into, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self._depthwise_conv = _Conv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPSILON)
        self._project_conv = _Conv(wide, out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out, eps=_EPSILON)
        self.adds = stride == 1 and into == out

    def forward(self, before: Tensor) -> Tensor:
        x = before
        if self.expands:
            x = nn.functional.relu6(self._bn0(self._expand_conv(x)))
        x = nn.functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        added: Tensor = x + before if self.adds else x
        return added


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Conv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPSILON)
        blocks, into = [], 32
        for repeats, kernel, stride, expansion, out in _STAGES:
            for number in range(repeats):
                blocks.append(_Block(into, out, kernel, stride if number == 0 else 1, expansion))
                into = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _Conv(into, FEATURES, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(FEATURES, eps=_EPSILON)
        self._fc = nn.Linear(FEATURES, 1000)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled features [n, 1280] and logits [n, 1000] of pixels [n, 3, 224, 224]."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        pooled = nn.functional.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))
        return pooled, self._fc(pooled)
