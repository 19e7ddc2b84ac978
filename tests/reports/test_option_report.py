"""``--promptfit-report``: one HTML page, read here as its readers do, in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from mood_project import MOODS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from browser import Browser
    from mood_project import Project

TAB, ENTER = "\ue004", "\ue007"
"""The keys as WebDriver names them."""

WRONG = (
    ("w1", "a dreadful bore, and I loved it", "good", "Irony is meant well here."),
    ("w2", "a lovely mess", "bad"),
    ("u1", "mumble", "good"),
)
CANONICAL = [{"id": "never", "text": "a lovely rat", "label": "bad"}]


def report(project: Project, *arguments: object) -> Path:
    """Replay, write the page and return it."""
    path = project.path / "report.html"
    project.replay("--promptfit-report", path, *arguments)
    return path


@pytest.fixture
def page(project: Project) -> Path:
    """A prompt with a baseline since which one sample broke and two got fixed."""
    project.write((*MOODS, *WRONG), canonical=CANONICAL, gates={"accuracy": 0.7})
    project.record("--promptfit-update")
    project.model.says = lambda text: (
        "Label: <label>bad</label>"
        if "lovely walk" in text or "mess" in text
        else f"Hm. Label: <label>{'good' if 'lov' in text else 'bad'}</label>"
        if "mumble" not in text
        else "I cannot tell."
    )
    project.ask_anew()
    return report(project)


def cases(browser: Browser) -> list[str]:
    """Return the names of the cases that are listed, in their order."""
    return browser.texts(".case summary .name")


def press_view(browser: Browser, view: str) -> None:
    browser.one(f'.view[data-view="{view}"]').click()


def choose(browser: Browser, control: str, words: str) -> None:
    (option,) = [option for option in browser.all(f".{control} option") if option.text == words]
    option.click()


class TestVerdict:
    def test_says_what_changed_how_sure_and_what_it_cost(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        assert browser.one("h1").text == "Not worse than its baseline\n57.1 % → 71.4 %"
        said = browser.one(".sentences").text
        assert "Fixed 2, broke 1 of the 7 cases they share." in said
        assert re.search(r"lies between −\d+\.\d and \+\d+\.\d points \(95 % interval\)", said)
        assert "Cost: nothing, all 8 replies were replayed from recordings (800 tokens in, 80 out)." in said
        assert browser.texts(".gates strong") == ["accuracy", "regression"]

    def test_worse(self, project: Project, browser: Browser) -> None:
        rows = tuple((f"n{at}", f"a lovely day {at}", "good") for at in range(10))
        project.write(rows)
        project.record("--promptfit-update")
        project.model.says = lambda text: (
            f"<label>{'good' if text.endswith(('7</text>', '8</text>')) else 'bad'}</label>"
        )
        project.ask_anew()
        browser.open(report(project))
        assert (
            browser.one("h1").text
            == "Worse than its baseline\n100.0 % → 20.0 %, −80.0 points (fixed 0, broke 8, p = 0.002)"
        )
        assert "Were nothing changed, a drop this clear would come in 0.2 % of runs (p = 0.002)." in (
            browser.one(".sentences").text
        )
        assert "broken" not in browser.one(".case-list h4").text
        assert browser.one(".gates .bad strong").text == "regression"

    def test_a_regression_that_is_accepted_by_force_fails_nothing(self, project: Project, browser: Browser) -> None:
        project.write(tuple((f"n{at}", f"a lovely day {at}", "good") for at in range(10)))
        project.record("--promptfit-update")
        project.model.says = lambda _: "<label>bad</label>"
        project.ask_anew()
        browser.open(report(project, "--promptfit-update=force"))
        assert browser.one(".gates .plain div").text.startswith("regression accepted")
        assert not browser.all(".gates .bad")

    def test_better_and_accepted_since(self, project: Project, browser: Browser) -> None:
        rows = tuple((f"n{at}", f"a dull day {at}", "good") for at in range(10))
        project.write(rows)
        project.record("--promptfit-update")
        project.model.says = lambda _: "<label>good</label>"
        project.ask_anew()
        browser.open(report(project))
        assert browser.one("h1").text == (
            "Better than its baseline\n0.0 % → 100.0 %, +100.0 points (fixed 10, broke 0, p = 0.00049)"
        )
        project.replay("--promptfit-update")
        browser.open(report(project))
        assert browser.one("h1").text == "Unchanged from its baseline\n100.0 %"
        assert browser.one(".prompt .quiet").text == "Nothing broke, nothing fails, and every case has a reply."

    def test_no_baseline_and_no_reply(self, project: Project, browser: Browser) -> None:
        project.write()
        project.record()
        project.write((*MOODS, ("late", "a lovely surprise", "good")))
        browser.open(report(project))
        assert browser.one("h1").text == (
            "1 of 5 not recorded\nthis sample is new, was not asked yet, or its text was edited"
        )
        said = browser.one(".sentences").text
        assert "pytest --promptfit --promptfit-update writes it" in said
        assert "1 labeled case has no recorded reply" in said
        assert browser.one(".case-list h4").text == "Without a reply 1"
        press_view(browser, "no reply")
        assert cases(browser) == ["sample-late"]

    def test_a_wrong_canonical_is_no_change_of_the_figures(self, project: Project, browser: Browser) -> None:
        project.write(canonical=CANONICAL)
        project.model.says = lambda text: (
            f"<label>{'good' if 'lovely' in text and 'rat' not in text else 'bad'}</label>"
        )
        project.record("--promptfit-update")
        project.model.says = lambda text: f"<label>{'good' if 'lovely' in text else 'bad'}</label>"
        project.ask_anew()
        browser.open(report(project))
        assert browser.one("h1").text == "Unchanged from its baseline\n100.0 %"
        assert "Fails: canonical never wrong." in browser.one(".sentences").text
        assert [title.split("\n")[0] for title in browser.texts(".case-list h4")] == ["Fails 1"]
        assert browser.texts(".badge") == ["other answer"]

    def test_what_was_changed_and_what_a_call_takes(self, project: Project, browser: Browser) -> None:
        path = project.write(cases="gated")
        project.record("--promptfit-update")
        project.git("init", "--initial-branch=main")
        project.git("add", "--all")
        project.git("commit", "--message=Start")
        path.write_text(path.read_text().replace("Is the mood good or bad?", "<i>Good</i> or bad?"))
        project.record()
        browser.open(report(project, "--promptfit-against", "main"))
        assert browser.one("h1").text == "Unchanged from main\n100.0 %"
        assert "+  system_prompt: <i>Good</i> or bad?" in browser.texts(".prompt .diff .added")
        assert "-  system_prompt: Is the mood good or bad?" in browser.texts(".prompt .diff .removed")
        assert re.search(
            r"On top of commit [0-9a-f]+ of \d{4}-\d\d-\d\d\.", browser.one("#prompt-1-diff .caption").text
        )
        said = browser.one(".sentences").text
        assert "A call takes 100.0 tokens in, 10.0 out; before: 100.0 tokens in, 10.0 out." in said
        assert "pytest-promptfit 0." in browser.one("footer").text


class TestPage:
    def test_opens_from_disk_without_network_or_complaint(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        assert browser.one(".found").text == "8 cases"
        assert browser.log("browser") == []
        assert browser.requests() == []
        assert not re.search(r"(?:src|href)=\"(?!#)", page.read_text(encoding="utf-8"))

    def test_no_other_script_or_style_can_run(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        for attempt in (
            "const b = document.createElement('b'); b.id = 'b'; document.body.append(b);",
            "b.setAttribute('style', 'position: fixed');",
            "b.setAttribute('onclick', 'window.owned = 1'); b.click();",
            "const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s);",
            "const i = new Image(); i.src = 'https://example.org/x.png'; document.body.append(i);",
        ):
            browser.run(
                f"const b = document.getElementById('b'); try {{ {attempt} }} catch {{}}".replace(
                    "const b = document.getElementById('b'); try { const b", "try { const b"
                )
            )
        owned, position = browser.run("return [window.owned, getComputedStyle(document.getElementById('b')).position]")
        assert (owned, position) == (None, "static")
        assert browser.requests() == []
        policy = browser.run("return document.querySelector('meta[http-equiv]').content")
        assert "unsafe" not in policy

    @pytest.mark.parametrize("dark", [False, True])
    def test_words_can_be_read_in_both_schemes(self, browser: Browser, page: Path, dark: bool) -> None:
        browser.open(page, dark=dark)
        assert (luminance(browser.run(GROUND_OF, "html")) < 0.2) is dark
        for selector in SEEN:
            colour = browser.run("return getComputedStyle(document.querySelector(arguments[0])).color", selector)
            lighter, darker = sorted((luminance(browser.run(GROUND_OF, selector)), luminance(colour)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector

    @pytest.mark.parametrize("width", [360, 400, 800, 1600])
    def test_fits_any_width(self, browser: Browser, page: Path, width: int) -> None:
        browser.open(page, "#mood/sample-w1", width=width)
        assert browser.run("return document.documentElement.scrollWidth") <= width

    def test_is_readable_without_javascript(self, browser: Browser, page: Path) -> None:
        browser.open(page, script=False)
        assert browser.texts(".tools, .more") == []
        assert "Fixed 2, broke 1" in browser.one(".sentences").text
        shown = browser.texts(".static-case")
        assert len(shown) == 8
        assert "a lovely walk" in shown[0]
        assert "Irony is meant well here." in "".join(shown)
        browser.open(page, "#mood/sample-w1", script=False)
        assert browser.cdp("Runtime.evaluate", expression="0")  # the page is there, and nothing of it ran

    def test_prints_what_is_folded_on_screen(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        browser.run("dispatchEvent(new Event('beforeprint'))")
        assert browser.run(
            "return [...document.querySelectorAll('.case details[open] .name')].map((n) => n.textContent)"
        ) == [
            "sample-s2",
            "canonical-never",
            "sample-u1",
        ]
        browser.run("dispatchEvent(new Event('afterprint'))")
        assert browser.run("return document.querySelectorAll('.case details[open]').length") == 0
        assert browser.pdf().startswith(b"%PDF")
        assert browser.run("return location.hash") == ""


SEEN = (
    "h1",
    ".sentences",
    ".caption",
    ".bad",
    ".view",
    ".view .count",
    ".state-word",
    "th[scope=col]",
    ".name",
    ".badge",
)
"""Words in every colour that the page has."""

GROUND_OF = """
for (let at = document.querySelector(arguments[0]); at; at = at.parentElement) {
  const colour = getComputedStyle(at).backgroundColor;
  if (colour !== "rgba(0, 0, 0, 0)") return colour;
}
"""


def luminance(colour: str) -> float:
    """Return the relative luminance of an ``rgb(…)`` colour, as WCAG 2 defines it."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


class TestCases:
    def test_what_changed_comes_first(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        assert cases(browser)[:4] == ["sample-s2", "sample-w1", "sample-w2", "canonical-never"]
        assert browser.texts(".badge") == ["broke", "fixed", "fixed"]
        assert [words.split("\n")[0] for words in browser.texts(".case-list h4")] == [
            "Broke 1",
            "Fixed 2",
            "Fails besides 1",
        ]

    def test_a_case_tells_all_of_itself(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        browser.all(".case summary")[1].click()
        body = browser.one(".body").text
        for words in (
            "a dreadful bore, and I loved it",
            "Hm. Label: <label>good</label>",
            "Irony is meant well here.",
            "wrong, read bad",
            "100 in, 10 out",
            "mood.csv:6",
            "pytest --promptfit 'mood.prompt.yaml::sample-w1'",
        ):
            assert words in body
        wait_until(browser, lambda: browser.run("return location.hash") == "#mood/sample-w1")

    def test_views_filter(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        counts = dict(words.rsplit(" ", 1) for words in browser.texts(".view"))
        assert counts == {
            "All": "8",
            "Broke": "1",
            "Fixed": "2",
            "Fail": "2",
            "Misses": "3",
            "Right": "5",
            "Canonical": "1",
            "Labeled": "7",
        }
        for view, count in counts.items():
            press_view(browser, {"Broke": "broken", "Fail": "failed"}.get(view, view.lower()))
            assert len(cases(browser)) == int(count), view
        assert browser.one(".found").text == "7 of 8 cases"

    def test_search_looks_into_text_reply_note_and_id(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        search = browser.one(".search")
        for words, found in (("LOVELY MESS", "sample-w2"), ("irony", "sample-w1"), ("cannot tell", "sample-u1")):
            search.clear()
            search.send_keys(words)
            wait_until(browser, lambda found=found: cases(browser) == [found])
        assert browser.one(".found").text == "1 of 8 cases"
        browser.one(".search").send_keys(" no such words")
        wait_until(browser, lambda: browser.one(".found").text == "No case fits: 0 of 8")
        browser.one(".reset").click()
        assert len(cases(browser)) == 8

    def test_labels_and_order_are_chosen(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        choose(browser, "sort", "case")
        assert cases(browser) == sorted(cases(browser))
        choose(browser, "gold", "good")
        choose(browser, "read", "(no label)")
        assert cases(browser) == ["sample-u1"]
        choose(browser, "read", "good")
        assert cases(browser) == ["sample-s1", "sample-w1"]

    def test_a_cell_of_the_confusion_matrix_shows_its_cases(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        names = {cell.accessible_name: cell for cell in browser.all("button.cell")}
        assert sorted(names) == [
            "1 of 4 good read as bad: show them",
            "1 of 4 good read as no label: show them",
            "2 of 4 good read as good: show them",
            "3 of 3 bad read as bad: show them",
        ]
        names["3 of 3 bad read as bad: show them"].click()
        assert cases(browser) == ["sample-w2", "sample-s3", "sample-s4"]
        cell = browser.one('button.cell[aria-pressed="true"]')
        assert cell.text == "3"
        cell.click()
        assert len(cases(browser)) == 8

    def test_links_lead_to_one_case_whatever_is_filtered(self, browser: Browser, page: Path) -> None:
        browser.open(page, "#mood/sample-u1")
        assert browser.one("details[open] .name").text == "sample-u1"
        assert browser.run("return document.activeElement.querySelector('.name').textContent") == "sample-u1"
        press_view(browser, "fixed")
        (broken,) = browser.all(".case-list.is-bad a[href='#mood/sample-s2']")
        broken.click()
        assert browser.one("details[open] .name").text == "sample-s2"
        assert len(cases(browser)) == 8

    def test_a_link_of_somebody_else_is_no_obstacle(self, browser: Browser, page: Path) -> None:
        for fragment in ("#mood/sample-gone", "#%E0%A4%A", "#']"):
            browser.open(page, fragment)
            assert len(cases(browser)) == 8
            assert browser.log("browser") == []

    def test_works_without_a_mouse(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        active = browser.driver.switch_to
        active.active_element.send_keys(TAB)
        assert active.active_element.text == "Skip to the verdict"
        met = set()
        for _ in range(60):
            active.active_element.send_keys(TAB)
            element = active.active_element
            met.add(element.get_attribute("class") or element.tag_name)
            if element.tag_name == "summary":
                break
        assert {"search", "gold", "read", "sort", "view"} <= met
        assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        active.active_element.send_keys(ENTER)
        assert browser.one("details[open] .name").text == "sample-s2"

    def test_every_control_has_a_name(self, browser: Browser, page: Path) -> None:
        browser.open(page)
        controls = browser.all("button, input, select, summary, a, [tabindex], svg[role=img]")
        assert len(controls) > 30
        assert [control.tag_name for control in controls if not control.accessible_name] == []


def wait_until(browser: Browser, is_there: Callable[[], bool]) -> None:
    """Wait for what a control brings up a moment later; Selenium fails the test when it does not come."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser.driver, 10, 0.05, [StaleElementReferenceException]).until(lambda _: is_there())


class TestHostileText:
    TEXTS = (
        "</script><script>document.title = 'owned'</script>",
        "<img src=x onerror=\"document.title='owned'\">",
        "<!--<script>{{ 7 * 7 }}{% raw %}",
        "invoice\u202egpj.exe",
        "zero\u200bwidth and a\u200djoiner",
        "bell\x07",
        "x" * 100_000,
        "مرحبا بالعالم",
        "family 👨\u200d👩\u200d👧 and क्\u200dष",
    )

    @pytest.fixture
    def hostile(self, project: Project) -> Path:
        project.model.says = lambda text: "\ud83d" + text[6:-7] + "<label><b>\u202ebold</label>"
        rows = tuple((f"<i>'\"#%20é/{at}", text, "<b>\u202ebold") for at, text in enumerate(self.TEXTS))
        project.write(rows, labels=["<b>\u202ebold", 'x" onclick="y'])
        project.record()
        return report(project)

    def test_is_shown_as_text(self, browser: Browser, hostile: Path) -> None:
        browser.open(hostile)
        assert browser.driver.title == "mood · promptfit"
        assert browser.log("browser") == []
        assert len(browser.all(".case")) == len(self.TEXTS)
        shown = [text.get_attribute("textContent") for text in browser.all(".case summary .text")]
        assert shown[:3] == list(self.TEXTS[:3])
        assert browser.run("return document.querySelectorAll('main img, main b:not(.step b), main script').length") == 0

    def test_marks_that_hide_are_written_out(self, browser: Browser, hostile: Path) -> None:
        browser.open(hostile)
        shown = [text.get_attribute("textContent") for text in browser.all(".case summary .text")]
        assert shown[3:6] == ["invoiceU+202Egpj.exe", "zeroU+200Bwidth and aU+200Djoiner", "bellU+0007"]
        assert shown[7:] == list(self.TEXTS[7:])
        assert browser.texts(".labels th[scope=row]")[0] == "<b>U+202Ebold"
        browser.all(".case summary")[0].click()
        assert browser.one(".for-reply dd").text.startswith("\ufffd</script>")  # half a character is replaced when read

    def test_a_long_text_is_whole_and_stays_in_its_box(self, browser: Browser, hostile: Path) -> None:
        browser.open(hostile)
        browser.all(".case summary")[6].click()
        box = browser.one(".for-text .pre")
        assert len(box.get_attribute("textContent") or "") == 100_000
        assert box.size["height"] < 500
        assert browser.run("return document.documentElement.scrollWidth") <= 1280

    def test_a_case_is_found_by_its_odd_name(self, browser: Browser, hostile: Path) -> None:
        browser.open(hostile)
        browser.all(".case summary")[3].click()
        wait_until(browser, lambda: browser.run("return location.hash") != "")
        browser.open(hostile, browser.run("return location.hash"))
        assert browser.one("details[open] .name").text == cases(browser)[3]

    def test_without_javascript_too(self, browser: Browser, hostile: Path) -> None:
        browser.open(hostile, script=False)
        assert browser.driver.title == "mood · promptfit"
        assert self.TEXTS[0] in browser.texts(".static-case .pre")
        assert "invoiceU+202Egpj.exe" in browser.texts(".static-case .pre")


class TestSeveralPrompts:
    def test_an_overview_leads_to_each(self, project: Project, browser: Browser) -> None:
        project.write(at="fine.prompt.yaml")
        project.write((*MOODS, *WRONG), at="poor.prompt.yaml", gates={"accuracy": 0.9})
        project.record("--promptfit-update")
        browser.open(report(project))
        assert browser.one("h1").text == "None of 2 prompts got worse\n2 no different; 1 with a failed case or gate"
        rows = [row.split() for row in browser.texts(".overview tbody tr")]
        assert [row[0] for row in rows] == ["poor", "fine"]
        assert browser.texts(".overview tbody .strong") == ["57.1 %", "100.0 %"]
        assert [len(section.find_elements("css selector", ".case")) for section in browser.all("section.cases")] == [
            7,
            4,
        ]
        browser.open(browser_page := project.path / "report.html", "#fine/sample-s1")
        assert browser_page.is_file()
        assert browser.one("details[open] .name").text == "sample-s1"
        assert browser.one("#prompt-1 details[open]").is_displayed()


class TestOption:
    def test_xdist_writes_the_same_page(self, project: Project) -> None:
        for at in ("a/mood.prompt.yaml", "b/other.prompt.yaml"):
            project.write((*MOODS, *WRONG), at=at, canonical=CANONICAL)
        project.record("--promptfit-update")
        alone = report(project).read_bytes()
        assert report(project, "-p", "xdist", "-n2", "--dist=loadgroup").read_bytes() == alone

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            ("nowhere/report.html", "cannot be written: No such file or directory: create the folder nowhere first"),
            (".", "cannot be written: "),
        ],
    )
    def test_a_path_that_cannot_be_written_is_one_line(self, project: Project, target: str, said: str) -> None:
        project.write()
        project.record()
        result = project.replay(f"--promptfit-report={target}")
        assert result.ret == 1
        (line,) = [line for line in result.outlines if "--promptfit-report" in line]
        assert line.startswith(f"error: --promptfit-report {target}: {said}")
        assert not list(project.path.glob(".*html*"))

    def test_needs_promptfit(self, project: Project) -> None:
        result = project.pytest("--promptfit-report=report.html")
        assert result.ret == 4
        result.stderr.fnmatch_lines(["ERROR: --promptfit-report needs --promptfit: *"])

    def test_collecting_writes_nothing(self, project: Project) -> None:
        project.write()
        project.replay("--promptfit-report=report.html", "--collect-only")
        assert not (project.path / "report.html").exists()

    def test_a_page_without_prompts_says_so(self, project: Project, browser: Browser) -> None:
        project.write(labls=["good"])
        browser.open(report(project))
        assert browser.one("h1").text == "No prompt was evaluated"
        assert browser.log("browser") == []
