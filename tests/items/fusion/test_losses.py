from __future__ import annotations

import numpy as np
import torch

from llmrec.items.fusion.network import association, bpr, contrast, infonce, reconstruction

DRAW = np.random.default_rng(0)


def tensor(*shape: int) -> torch.Tensor:
    return torch.tensor(DRAW.normal(size=shape))


def log_softmax(rows: np.ndarray) -> np.ndarray:
    made: np.ndarray = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return made


def test_infonce() -> None:
    scores, log_q = tensor(3, 5), torch.log(torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2]).double())
    targets = torch.tensor([[0, 1], [2, 2], [4, 0]])
    given = torch.tensor([[True, True], [True, False], [True, True]])
    logs = log_softmax(scores.numpy() - log_q.numpy())
    expected = -np.mean([(logs[0, 0] + logs[0, 1]) / 2, logs[1, 2], (logs[2, 4] + logs[2, 0]) / 2])
    np.testing.assert_allclose(infonce(scores, targets, given, log_q=log_q), expected)
    smooth = infonce(scores, targets[:, :1], given[:, :1], label_smoothing=0.2)
    logs = log_softmax(scores.numpy())
    own = logs[np.arange(3), targets[:, 0].numpy()]
    np.testing.assert_allclose(smooth, -np.mean(0.8 * own + 0.2 * logs.mean(axis=1)))


def test_bpr() -> None:
    positive, negative = tensor(4), tensor(4)
    expected = np.mean(np.log1p(np.exp(negative.numpy() - positive.numpy())))
    np.testing.assert_allclose(bpr(positive, negative), expected)


def test_association() -> None:
    u, i, t, v = tensor(2, 3), tensor(2, 3), tensor(4, 3), tensor(4, 3)
    both = torch.tensor([True, False, True, True])

    def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        made: np.ndarray = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        return made

    met = cosine(u.numpy(), i.numpy()).mean()
    agreed = cosine(t.numpy(), v.numpy())[both.numpy()].mean()
    np.testing.assert_allclose(association(u, i, [(t, v, both)], 0.5), -(met + 0.5 * agreed))
    np.testing.assert_allclose(association(u, i, [(t, v, ~both & False)], 0.5), -met)


def test_reconstruction() -> None:
    a, b, c, d = tensor(3, 2), tensor(3, 2), tensor(5, 4), tensor(5, 4)
    parts = [((x - y).numpy() ** 2).sum(1).mean() for x, y in ((a, b), (c, d))]
    np.testing.assert_allclose(reconstruction([(a, b), (c, d), (a[:0], b[:0])]), 0.5 * sum(parts))
    assert reconstruction([]) == 0


def test_contrast() -> None:
    a, b = tensor(3, 4), tensor(3, 4)
    ua, ub = (x.numpy() / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    scores = ua @ ub.T / 0.1
    expected = -(np.diag(log_softmax(scores)).mean() + np.diag(log_softmax(scores.T)).mean()) / 2
    np.testing.assert_allclose(contrast(a, b), expected)
