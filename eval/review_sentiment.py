"""AUC of review sentiment methods, items held out.

python eval/review_sentiment.py ../shared/data/movielens_mm --sample 700

Reviews with a clear rating are judged (upper and lower third of the scale: on 1 to 10 that is 7 and
up against 4 and down), each by regressions that were fitted on the reviews of other items. Empty
texts, and texts that several reviews have, are left out of every row. Intervals are percentiles of
a bootstrap over items.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from llmrec import Catalog, TextEncoder
from llmrec.content_cache import ContentCache
from llmrec.items.sentiment import RatedSentiment, ZeroShotSentiment, spoken_well
from llmrec.models import cache_folder
from llmrec.records import Review

RESULTS = Path(__file__).parent / "results"
SHIPPED = "learned from ratings, as shipped"
DRAWS = 1_000


def main() -> None:
    """Judge a data set's reviews and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sample", type=int, help="Reviews to judge, drawn at random (all)")
    arguments = parser.parse_args()
    folder = arguments.data
    catalog = Catalog.from_folder(folder, on_problem="skip")
    reviews, labels, left_out = judged(catalog.reviews)
    if arguments.sample is not None and arguments.sample < len(reviews):
        drawn = np.random.default_rng(0).permutation(len(reviews))[: arguments.sample]
        reviews, labels = [reviews[at] for at in drawn], labels[drawn]
    cache = ContentCache(cache_folder() / "insights.sqlite3")
    encoder = TextEncoder.from_pretrained()
    rows = scores_of(reviews, catalog.reviews, encoder, cache)
    unjudged = {name: int(np.isnan(scores).sum()) for name, scores in rows.items()}
    filled = {name: np.nan_to_num(scores, nan=0.5) for name, scores in rows.items()}
    items = np.array([row.item_id for row in reviews])
    about = {
        "command": f"python eval/review_sentiment.py ../shared/data/{folder.name}"
        + (f" --sample {arguments.sample}" if arguments.sample is not None else ""),
        "reviews": len(reviews),
        "speak well": int(labels.sum()),
        "speak ill": int((1 - labels).sum()),
        "items": len(set(items.tolist())),
        **left_out,
        "encoder": encoder.name,
        "bootstrap draws over items": DRAWS,
        "version llmrec": version("llmrec"),
    }
    write(folder.name, about, table(filled, labels, items, unjudged))


def judged(every: tuple[Review, ...]) -> tuple[list[Review], NDArray[np.int64], dict[str, int]]:
    """The reviews that every row judges, whether they speak well, and how many are left out."""
    well = spoken_well(every)
    plain = [" ".join(row.text.lower().split()) for row in every]
    times = Counter(plain)
    unclear = [not np.isfinite(each) for each in well]
    copied = [times[text] > 1 for text in plain]
    kept = [at for at in range(len(every)) if not unclear[at] and not copied[at]]
    left_out = {
        "left out, empty or no clear rating": sum(unclear),
        "left out, text of several reviews": sum(
            copy and not other for copy, other in zip(copied, unclear, strict=True)
        ),
    }
    return [every[at] for at in kept], well[kept].astype(np.int64), left_out


def scores_of(
    reviews: list[Review],
    every: tuple[Review, ...],
    encoder: TextEncoder,
    cache: ContentCache,
) -> dict[str, NDArray[np.float64]]:
    """Each way's score of each review, higher is better; NaN where it cannot tell."""
    shipped = RatedSentiment(tuple(every), encoder, cache, progress=True)
    features = shipped.features(reviews)
    folds = np.array([shipped.fold(row.item_id) for row in reviews])
    words, meaning = np.zeros(len(reviews)), np.zeros(len(reviews))
    size = len(shipped.vocabulary.vocabulary_)
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        weights = shipped.fitted[fold][0].coef_[0]
        words[rows] = features[rows][:, :size] @ weights[:size]
        meaning[rows] = features[rows][:, size:] @ weights[size:]
    return {
        "zero-shot, mean of sentences": ZeroShotSentiment(encoder, progress=True).scores(reviews),
        "its words alone": words,
        "its embeddings alone": meaning,
        SHIPPED: shipped.scores(reviews),
    }


def table(
    rows: Mapping[str, NDArray[np.float64]],
    labels: NDArray[np.int64],
    items: NDArray[np.str_],
    unjudged: Mapping[str, int],
) -> list[dict[str, str | int | float]]:
    """AUC of each row with its interval, and of what the shipped one has more than it."""
    names, places = np.unique(items, return_inverse=True)
    rng = np.random.default_rng(0)
    draws: dict[str, list[float]] = {name: [] for name in rows}
    for _ in tqdm(range(DRAWS), desc="Bootstrap"):
        drawn = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        weights = drawn[places]
        for name, scores in rows.items():
            draws[name].append(float(roc_auc_score(labels, scores, sample_weight=weights)))
    found: list[dict[str, str | int | float]] = []
    for name, scores in rows.items():
        low, high = np.percentile(draws[name], (2.5, 97.5))
        less = np.array(draws[SHIPPED]) - np.array(draws[name])
        behind_low, behind_high = np.percentile(less, (2.5, 97.5))
        found.append(
            {
                "way": name,
                "AUC": float(roc_auc_score(labels, scores)),
                "low": float(low),
                "high": float(high),
                "shipped has more, low": float(behind_low),
                "shipped has more, high": float(behind_high),
                "cannot tell": unjudged[name],
            }
        )
    return found


def write(
    name: str, about: Mapping[str, str | int], rows: list[dict[str, str | int | float]]
) -> None:
    """Write the table into the results, beside those of other data sets."""
    path = RESULTS / "review_sentiment.json"
    document = json.loads(path.read_text()) if path.exists() else {}
    document[name] = {"about": about, "rows": rows}
    document = dict(sorted(document.items(), reverse=True))
    path.write_text(json.dumps(document, indent=1) + "\n")
    lines = ["# Telling good reviews from bad, items held out", ""]
    for data, each in document.items():
        lines += [f"## {data}", "", f"`{each['about']['command']}`", ""]
        lines += [f"- {key}: {value}" for key, value in each["about"].items() if key != "command"]
        lines += ["", "| way | AUC (95 %) | shipped has more (95 %) | cannot tell |"]
        lines += ["| --- | ---: | ---: | ---: |", *map(line, each["rows"]), ""]
    lines += [
        "Intervals are from a bootstrap over items. A review that a way cannot tell counts as one",
        "half. Words and embeddings alone are the two terms of the shipped regression.",
    ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


def line(row: Mapping[str, str | int | float]) -> str:
    """One row of the table."""
    more = f"{row['shipped has more, low']:+.3f} to {row['shipped has more, high']:+.3f}"
    auc = f"{row['AUC']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    return (
        f"| {row['way']} | {auc} | {'' if row['way'] == SHIPPED else more} | {row['cannot tell']} |"
    )


if __name__ == "__main__":
    main()
