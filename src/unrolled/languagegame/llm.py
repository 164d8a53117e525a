"""`Chat`: any endpoint that speaks OpenAI's chat protocol, for routing and for wording. Optional; nothing needs it."""

import os
from typing import Any

from unrolled.core import require


class Chat:
    """A language model as a function of (system, prompt) (extra `llm`).

    Args:
        base_url: such as `http://127.0.0.1:8080/v1`.
        model: its name there.
        temperature: of sampling.
        max_tokens: of an answer.
        api_key: by default the environment's OPENAI_API_KEY; local servers need none.
        timeout: seconds per call.

    Example:
        >>> Chat("http://127.0.0.1:8080/v1", "small").model
        'small'
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        temperature: float = 0.2,
        max_tokens: int = 120,
        api_key: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.base_url, self.model = base_url, model
        self.temperature, self.max_tokens, self.timeout = temperature, max_tokens, timeout
        self._key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._client: Any = None

    def __call__(self, system: str, prompt: str) -> str:
        """The answer.

        Raises:
            ImportError: the extra is missing.
            RuntimeError: the endpoint cannot be reached, refuses, or answers nothing.
        """
        openai = require("openai", extra="llm")
        if self._client is None:
            self._client = openai.OpenAI(
                base_url=self.base_url, api_key=self._key, max_retries=0, timeout=self.timeout
            )
        try:
            said = self._client.chat.completions.create(
                model=self.model, temperature=self.temperature, max_tokens=self.max_tokens,
                messages=[{"role": "system", "content": system}, {"role": "user", "content": prompt}],
            )  # fmt: skip
            text = said.choices[0].message.content
        except openai.OpenAIError as error:
            raise RuntimeError(f"{self.model} at {self.base_url}: {str(error)[:200]}") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise RuntimeError(
                f"{self.model} at {self.base_url} does not speak the chat protocol; should base_url end in /v1?"
            ) from error
        if not text or not text.strip():
            raise RuntimeError(f"{self.model} at {self.base_url} said nothing")
        return text.strip()
