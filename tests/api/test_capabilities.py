"""/easel/v1/capabilities."""

from __future__ import annotations

from tests.api.conftest import Running


def test_a_checkpoint_tells_what_it_can_do(easel: Running) -> None:
    answer = easel.client.get("/easel/v1/capabilities", params={"checkpoint": "second"}).json()
    assert answer["checkpoint"].startswith("second.safetensors")
    assert (answer["family"], answer["family_title"]) == ("sd1", "Stable Diffusion 1.x")
    assert answer["capabilities"]["prediction"] == "eps"
    assert answer["capabilities"]["negative_prompt"] is True
    assert "Euler a" in answer["samplers"]
    assert "Karras" in answer["schedulers"]
    assert easel.client.get("/easel/v1/capabilities").json()["family"] == "sd1"


def test_a_broken_one_says_why_and_an_unknown_one_isnt_there(easel: Running) -> None:
    answer = easel.client.get("/easel/v1/capabilities", params={"checkpoint": "broken"}).json()
    assert answer["family"] is answer["capabilities"] is None
    assert "broken.safetensors" in answer["problem"]
    assert easel.client.get("/easel/v1/capabilities", params={"checkpoint": "nowhere"}).status_code == 404
