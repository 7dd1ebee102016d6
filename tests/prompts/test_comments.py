import pytest

from webui.prompts.comments import strip_comments


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat # comment here\n# whole line\non a chair", "a cat \non a chair"),  # recorded
        ("# first\na", "\na"),
        ("a\n# last", "a\n"),
        ("a\n# one\n# two\nb", "a\n\nb"),
        ("a ## b\nc", "a \nc"),
        ("a\n#\nb", "a\nb"),
        ("no comment", "no comment"),
    ],
)
def test_comments_go(prompt, expected):
    assert strip_comments(prompt) == expected
