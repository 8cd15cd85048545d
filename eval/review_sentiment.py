"""Tell good reviews from bad by their texts, items held out: how well each way of doing it does.

python eval/review_sentiment.py ../shared/data/movielens_mm

Judged are the reviews with a clear rating (upper and lower third of the scale: on 1 to 10 that is
7 and up against 4 and down), each by heads that were fitted on the reviews of other items. Empty
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
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from llmrec import Catalog, TextEncoder
from llmrec.content_cache import ContentCache
from llmrec.items.rated_sentiment import RatedSentiment, spoken_well
from llmrec.items.readings import read_texts
from llmrec.items.sentiment import LexiconSentiment
from llmrec.items.sentiment_head import SOURCES, Material
from llmrec.items.vocabulary import Vocabulary
from llmrec.models import cache_folder
from llmrec.records import Review

RESULTS = Path(__file__).parent / "results"
SHIPPED = "joined head, as shipped"
BASELINES = ("VADER, mean of sentences", "head on embeddings")
DRAWS = 1_000


def main() -> None:
    """Judge a data set's reviews and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    folder = parser.parse_args().data
    catalog = Catalog.from_folder(folder, on_problem="skip")
    reviews, labels, left_out = judged(catalog.reviews)
    cache = ContentCache(cache_folder() / "insights.sqlite3")
    encoder = TextEncoder.from_pretrained()
    rows = scores_of(reviews, catalog.reviews, encoder, cache)
    unjudged = {name: int(np.isnan(scores).sum()) for name, scores in rows.items()}
    filled = {name: np.nan_to_num(scores, nan=0.5) for name, scores in rows.items()}
    items = np.array([row.item_id for row in reviews])
    about = {
        "command": f"python eval/review_sentiment.py ../shared/data/{folder.name}",
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
    texts = [row.text for row in reviews]
    vader = SentimentIntensityAnalyzer()
    whole = [vader.polarity_scores(text)["compound"] / 2 + 0.5 for text in tqdm(texts)]
    shipped = RatedSentiment(tuple(every), encoder, cache, progress=True)
    readings = read_texts([row.text for row in every], cache)
    vocabulary = Vocabulary.of([row.text for row in every])
    material = Material.of(texts, [readings[text] for text in texts], vocabulary, encoder.encode)
    features = (material.words, material.meaning, material.tone)
    folds = np.array([shipped.fold(row.item_id) for row in reviews])
    alone = {source: np.zeros(len(reviews)) for source in SOURCES}
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        pipelines = shipped.heads[fold].sources
        for source, pipeline, matrix in zip(SOURCES, pipelines, features, strict=True):
            alone[source][rows] = pipeline.predict_proba(matrix[rows])[:, 1]
    return {
        "VADER, whole text": np.array(whole),
        BASELINES[0]: LexiconSentiment(cache).scores(reviews),
        "head on VADER's tones": alone["tone"],
        "head on words": alone["words"],
        BASELINES[1]: alone["meaning"],
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
        "half. The heads of single sources are those inside the shipped one, on the same folds.",
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
