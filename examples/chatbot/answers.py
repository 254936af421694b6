"""Two ways for the engine to answer: by retrieval from the documentation, or by an OpenAI-compatible model."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
from retrieval import Library

log = logging.getLogger("engine")

#: Tokens of so many seconds share one callback: often enough to look alive, rarely enough not to be a flood.
DELTA_SECONDS = 0.15

#: Seconds before a failed request to the model is made again; then the reply ends with a sentence about it.
RETRY_AFTER = (1.0, 3.0)

#: A model that says nothing for so many seconds is taken for gone.
SILENCE_SECONDS = 60

SYSTEM_PROMPT = """You answer questions about Hookbrook, a self-hosted event gateway for webhooks and Server-Sent
Events. Use only the passages of its documentation below, name the page you rely on, and say so when they do not
answer the question. Plain text, three to six sentences.

{passages}"""

GO_ON = "Your reply was cut off. Go on exactly where it stopped, without repeating or commenting anything."

Tell = Callable[[Sequence[str]], None]


class Answerer(Protocol):
    """Finds the answer to a question."""

    #: How the page introduces it: `by retrieval from Hookbrook's docs`.
    name: str

    async def answer(self, question: str, so_far: str, tell: Tell) -> str:
        """The whole text of the reply. It begins with `so_far`, which an earlier run told already.

        MUST pass on to `tell` every token after `so_far` if it passes on any, and never takes one back.
        """


class Retrieval:
    """Sentences of the documentation, after a deliberate while: the demonstration is about work that takes time."""

    name = "by retrieval from Hookbrook's docs"

    def __init__(self, library: Library, work_seconds: float) -> None:
        self._library = library
        self._work_seconds = work_seconds

    async def answer(self, question: str, so_far: str, tell: Tell) -> str:  # noqa: ARG002 - told all at once
        await asyncio.sleep(self._work_seconds)
        return await asyncio.to_thread(self._library.answer, question)


class Model:
    """A language model behind the chat completions API; its tokens are passed on while they come."""

    def __init__(self, library: Library, http: aiohttp.ClientSession, base_url: str, key: str, model: str) -> None:
        self.name = f"by {model} at {urlsplit(base_url).netloc}"
        self._library = library
        self._http = http
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._key = key
        self._model = model

    async def answer(self, question: str, so_far: str, tell: Tell) -> str:
        text = so_far
        for pause in (*RETRY_AFTER, None):
            try:
                async for tokens in in_batches(self._tokens(question, text)):
                    tell(tokens)
                    text += "".join(tokens)
            except (aiohttp.ClientError, TimeoutError, ModelFailed) as error:
                log.warning("the model failed: %s", describe(error))
                if pause is None:
                    apology = f"[The reply ends here: {self._model} could not be reached or failed: {describe(error)}]"
                    tell([f"\n\n{apology}" if text else apology])
                    return f"{text}\n\n{apology}" if text else apology
                await asyncio.sleep(pause)
            else:
                return text
        raise AssertionError("the last pause is None")

    async def _tokens(self, question: str, so_far: str) -> AsyncIterator[str]:
        passages = "\n\n".join(
            f"{hit.section.cite()}: {' '.join(hit.section.sentences)}" for hit in self._library.search(question)
        )
        messages = [
            {"role": "system", "content": SYSTEM_PROMPT.format(passages=passages or "(no passage fits)")},
            {"role": "user", "content": question},
        ]
        if so_far:
            messages += [{"role": "assistant", "content": so_far}, {"role": "user", "content": GO_ON}]
        body = {"model": self._model, "messages": messages, "stream": True}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS)
        headers = {"Authorization": f"Bearer {self._key}"}
        async with self._http.post(self._url, json=body, headers=headers, timeout=timeout) as response:
            if response.status != 200:
                raise ModelFailed(f"it answered {response.status}")
            async for line in response.content:
                data = line.strip().removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
                if data == b"[DONE]":
                    return
                if data and (token := read_token(data)):
                    yield token
        raise ModelFailed("its stream broke off")


class ModelFailed(Exception):
    """The model's API answered, but not with a whole reply."""


def read_token(data: bytes) -> str:
    """The text in one `chat.completion.chunk`; empty for those that carry only a role or a count."""
    try:
        chunk = json.loads(data)
    except ValueError as error:
        raise ModelFailed("it sent something that is not JSON") from error
    if not isinstance(chunk, Mapping) or "error" in chunk:
        raise ModelFailed("it reported an error in mid-stream")
    choices = chunk.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")


async def in_batches(tokens: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    """The tokens of about `DELTA_SECONDS` at a time; what came before a failure is still handed on."""
    batch: list[str] = []
    last = time.monotonic()
    failure: Exception | None = None
    try:
        async for token in tokens:
            batch.append(token)
            if time.monotonic() - last >= DELTA_SECONDS:
                yield batch
                batch, last = [], time.monotonic()
    except (aiohttp.ClientError, TimeoutError, ModelFailed) as error:
        failure = error
    if batch:
        yield batch
    if failure:
        raise failure


def describe(error: Exception) -> str:
    return str(error) or type(error).__name__
