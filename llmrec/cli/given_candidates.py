"""``llmrec rerank`` at work: candidates that were given, of one user or in a file of requests."""

from __future__ import annotations

from pathlib import Path

import typer

from llmrec.cli.exits import FAILED
from llmrec.cli.loading import Asking, describe_model, retriever_for
from llmrec.cli.output import fields, print_json, screen, waiting
from llmrec.cli.ranking_view import Answer, model_line, print_answer, tokens_line
from llmrec.records import Interaction, Ranking, User
from llmrec.reranking.request_files import Request, read_requests, rerank_file
from llmrec.retrieval import Index, Retriever


def rerank_one(index: Index, user_id: str, ids: str, asking: Asking, *, as_json: bool) -> None:
    """Rank one user's candidates, ids separated by commas, and print all of them."""
    user = index.user(user_id)
    served = retriever_for(index, user)
    item_ids = [item_id.strip() for item_id in ids.split(",") if item_id.strip()]
    found = served.retriever.candidates(user, item_ids)
    reranker, model = asking.load(index)
    with waiting(f"Reranking {len(found)} candidates"):
        ranking = reranker.rerank(user, found)
    seen = sorted({entry.item_id for entry in user.history}.intersection(item_ids))
    seen_note = f"In the user's history already: {', '.join(seen)}." if seen else ""
    notes = tuple(note for note in (served.note, seen_note) if note)
    fitted = reranker.weights_key in index.weights
    print_answer(
        Answer(ranking, index.items, model, fitted, notes=notes, rates=asking.model.rates()),
        len(item_ids),
        as_json=as_json,
    )


def rerank_requests(
    index: Index, requests: Path, out: Path, asking: Asking, *, as_json: bool
) -> None:
    """Answer a file of requests, print what became of it; ends with 1 where one failed."""
    read_requests(requests)  # what can be refused is refused before a model is loaded
    reranker, model = asking.load(index)
    retriever = Retriever(index)

    def answer(request: Request) -> Ranking:
        user = _user_of(index, request)
        serving = retriever if user.history else retriever_for(index, user).retriever
        return reranker.rerank(user, serving.candidates(user, request.candidates))

    weights = dict(index.weights.get(reranker.weights_key, {}))
    placement = describe_model(model).get("device"), describe_model(model).get("dtype")
    settings = (reranker.weights_key, weights, placement, index.fingerprint, index.encoder)
    outcome = rerank_file(requests, out, answer, settings=repr(settings), progress=True)
    rates = asking.model.rates()
    if as_json:
        print_json({"out": out, "outcome": outcome, "model": describe_model(model)})
    else:
        rows = {
            "Results": out,
            "Requests": f"{outcome.reranked:,} answered now, {outcome.resumed:,} by earlier runs",
            "Failed": f"{outcome.failed:,}: their lines hold an error" if outcome.failed else "",
            "Incomplete": f"{outcome.incomplete:,}: a server did not answer some requests"
            if outcome.incomplete
            else "",
            "Model": model_line(model),
            "Tokens": tokens_line(outcome.usage),
            "Cost": f"{rates.cost(outcome.usage):.6f} by the table of prices" if rates else "",
        }
        screen().print(fields(rows))
    if outcome.failed:
        raise typer.Exit(FAILED)


def _user_of(index: Index, request: Request) -> User:
    """The index's user, or one with the history that the request gives."""
    if request.history is None:
        return index.user(request.user_id)
    history = tuple(Interaction(request.user_id, item_id) for item_id in request.history)
    return User(request.user_id, history, index.profiles.get(request.user_id, {}))
