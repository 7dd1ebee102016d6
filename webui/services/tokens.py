"""How many tokens a prompt takes, as the counters over the prompt boxes show it."""

from __future__ import annotations

from collections.abc import Sequence

from webui.prompts.chunks import EmbeddingNames, TokenCount, count_tokens, names_within
from webui.services.services import Services


def count_prompt_tokens(
    services: Services, prompt: str, styles: Sequence[str], steps: int, *, negative: bool = False
) -> TokenCount:
    """Raises: InvalidRequest for a prompt that can't be read, such as brackets nested too deeply."""
    settings = services.settings.snapshot()
    texts = services.styles.texts(styles, negative=negative)
    vectors = services.networks.embeddings.vectors()
    within = names_within(vectors, "\n".join([prompt, *texts]))
    counted = styles if settings["include_styles_into_token_counters"] else ()
    return count_tokens(
        prompt,
        services.tokenizer(),
        styles=services.styles.texts(counted, negative=negative),
        negative=negative,
        steps=max(steps, 1),
        comments=settings["enable_prompt_comments"],
        emphasis=settings["emphasis"],
        comma_backtrack=settings["comma_padding_backtrack"],
        embeddings=EmbeddingNames({name: vectors[name] for name in within}, services.tokenizer()),
    )
