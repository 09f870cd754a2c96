"""The page in a real browser, from the disk: no server, no network."""

import io

import chromium
import numpy as np
import pytest
from made_runs import made_run
from PIL import Image

from rbctrl.report import report
from rbctrl.report.publish import publish

pytestmark = [pytest.mark.slow, pytest.mark.skipif(chromium.missing() is not None, reason=str(chromium.missing()))]


@pytest.fixture(scope="module")
def driver():
    with chromium.browser() as found:
        yield found


def page(folder, n_items):
    for k, controller in enumerate(("tv", "dps")):
        psnr = {f"{i:04d}.png": 20.0 + 10 * np.sin(i) + k for i in range(n_items)}
        made_run(folder / controller, psnr, controller, images=n_items < 100, alive={"0003.png": controller == "tv"})
    return publish(report([folder]), folder, "A report", "rbctrl report")


def shown(driver, table):
    return [line.text for line in driver.find_elements("css selector", f"{table} tbody tr[data-k]")]


def typed(driver, box, text):
    element = driver.find_element("id", box)
    element.clear()
    element.send_keys(text)


@pytest.mark.parametrize("n_items", [5, 2500], ids=["10 rows", "5,000 rows"])
def test_rows_are_filtered_and_sorted_without_an_error(driver, tmp_path, n_items):
    driver.get(page(tmp_path, n_items).as_uri())
    assert driver.find_element("id", "row-count").text == f"{2 * n_items} of {2 * n_items}"
    assert len(shown(driver, "#row-table")) <= 60  # only what is in view is in the document
    typed(driver, "row-filter", "dps 0003")
    assert len(shown(driver, "#row-table")) == 1 and "diverged" in shown(driver, "#row-table")[0]
    typed(driver, "row-filter", "status=diverged")
    assert driver.find_element("id", "row-count").text == f"1 of {2 * n_items}"
    typed(driver, "row-filter", "psnr>28 controller=tv")
    values = [float(text.split()[-1]) for text in shown(driver, "#row-table")]
    assert values and min(values) > 28 and not any("dps" in text for text in shown(driver, "#row-table"))
    driver.find_elements("css selector", "#row-table th")[6].click()
    values = [float(text.split()[-1]) for text in shown(driver, "#row-table")]
    assert values == sorted(values, reverse=True)
    typed(driver, "line-filter", "controller=dps")
    assert len(shown(driver, "#lines")) == 1
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_slider_divides_two_pictures(driver, tmp_path):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import Select

    driver.get(page(tmp_path, 5).as_uri())
    Select(driver.find_element("id", "left")).select_by_value("truth")
    Select(driver.find_element("id", "right")).select_by_value("tv")
    slider = driver.find_element("id", "slider")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", slider)
    width = slider.size["width"]
    assert divider(driver) == 50 and pixels(driver, 0.25) == "black" and pixels(driver, 0.75) == "white"
    ActionChains(driver).move_to_element(slider).click_and_hold().move_by_offset(
        int(0.3 * width), 0
    ).release().perform()
    assert divider(driver) == pytest.approx(80, abs=3)
    assert pixels(driver, 0.70) == "black" and pixels(driver, 0.95) == "white"
    dragged = divider(driver)
    slider.send_keys("\ue012")  # the left arrow
    assert divider(driver) == pytest.approx(dragged - 1)
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_row_shows_its_picture_and_its_command(driver, tmp_path):
    driver.get(page(tmp_path, 5).as_uri())
    typed(driver, "row-filter", "dps 0002")
    driver.find_element("css selector", "#row-table tbody tr[data-k]").click()
    assert driver.find_element("id", "item").get_property("value") == "0002.png"
    assert driver.find_element("id", "right").get_property("value") == "dps"
    opened = driver.find_element("css selector", "#cell-list details[open]").text
    assert "rbctrl operator=sr4 controller=dps" in opened and "_target_: rbctrl.controllers.DPS" in opened


def divider(driver):
    """Where the line is, in percent."""
    return float(driver.execute_script("return document.getElementById('divider').style.left").rstrip("%"))


def pixels(driver, share):
    """The colour of the viewer at a share of its width, from a screenshot, away from the handle."""
    with Image.open(io.BytesIO(driver.find_element("id", "viewer").screenshot_as_png)) as picture:
        level = picture.convert("L").getpixel((int(share * picture.width), picture.height // 4))
    return {True: "white", False: "black"}[level > 200] if level > 200 or level < 50 else "gray"
