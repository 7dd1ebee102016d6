"""The script X/Y/Z plot on the page."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browsing import Visit

X, Y = (f"#script_txt2img_xyz_plot_{letter}" for letter in "xy")


def test_a_plot_is_put_together_made_and_read_back_from_its_grid(visit: Visit) -> None:
    page = visit.page
    page.click("#script_list input")
    page.locator("#script_list").get_by_role("option", name="X/Y/Z plot").click()
    expect(page.locator(f"{X}_type input")).to_have_value("Seed")
    visit.choose(f"{X}_type input", "RNG source")
    listed, text = page.locator(f"{X}_values_dropdown"), page.locator(f"{X}_values textarea")
    expect(listed).to_be_visible()  # the server has said what there is
    expect(text).to_be_hidden()
    page.click("#tab_txt2img #xyz_grid_fill_x_tool_button")
    expect(listed.locator(".token")).to_have_text([re.compile(name) for name in ("GPU", "CPU", "NV")])
    visit.choose(f"{Y}_type input", "Steps")
    page.fill(f"{Y}_values textarea", "1,2")
    page.click("#tab_txt2img #xy_grid_swap_axes_button")
    expect(text).to_have_value("1,2")
    expect(page.locator(f"{Y}_values_dropdown .token")).to_have_count(3)
    page.check("#script_txt2img_xyz_plot_csv_mode input")
    expect(page.locator(f"{Y}_values textarea")).to_have_value("GPU,CPU,NV")
    visit.fill_in("a cat", "txt2img", width=64, height=64, seed=5)
    with visit.job():
        page.click("#txt2img_generate")
    assert visit.picture_width() == 48 + 2 * 64
    told = 'Script: X/Y/Z plot, X Type: Steps, X Values: "1,2", Y Type: RNG source, Y Values: "GPU,CPU,NV"'
    expect(page.locator("#html_info_txt2img")).to_contain_text(told)
    page.fill(f"{X}_values textarea", "1,many")
    page.click("#txt2img_generate")
    expect(page.locator("#html_log_txt2img")).to_contain_text('X values of Steps: "many" is no whole number')
    infotext = page.locator("#html_info_txt2img").inner_text()
    page.uncheck("#script_txt2img_xyz_plot_csv_mode input")
    page.click("#script_list input")
    page.locator("#script_list").get_by_role("option", name="None").click()
    page.fill("#txt2img_prompt textarea", infotext)
    page.click("#paste")
    expect(page.locator("#script_list input")).to_have_value("X/Y/Z plot")
    expect(text).to_have_value("1,2")
    expect(page.locator(f"{Y}_values_dropdown .token")).to_have_count(3)
    assert visit.complaints == []
