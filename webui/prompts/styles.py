def merge_style(style: str, prompt: str) -> str:
    """`prompt` in the place of "{prompt}" in the style, or followed by the style after a comma."""
    if "{prompt}" in style:
        return style.replace("{prompt}", prompt)
    return ", ".join(part for part in (prompt.strip(), style.strip()) if part)
