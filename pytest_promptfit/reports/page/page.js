"use strict";
// Shows the cases of the JSON block a page at a time. Text only ever becomes text nodes: no markup is made of it.
(() => {
  const PAGE_SIZE = 50;
  const PRINTED = 300;
  const SNIPPET = 240;

  // The views of the cases, in the order of their buttons.
  const VIEWS = {
    all: ["All", () => true],
    broken: ["Broke", (c) => c.change === "broken"],
    fixed: ["Fixed", (c) => c.change === "fixed"],
    "other answer": ["Other answer", (c) => c.change === "other answer"],
    new: ["New", (c) => c.change === "new"],
    failed: ["Fail", (c) => c.verdict === "failed"],
    misses: ["Misses", (c) => c.status === "wrong" || c.status === "missing"],
    unstable: ["Unstable", (c) => c.answers !== ""],
    abstained: ["Abstained", (c) => c.status === "abstained"],
    "no reply": ["No reply", (c) => c.status === "no reply"],
    right: ["Right", (c) => c.status === "right"],
    canonical: ["Canonical", (c) => c.canonical],
    labeled: ["Labeled", (c) => !c.canonical],
  };
  const FIRST = ["broken", "fixed", "other answer"];
  const WORST = ["no reply", "missing", "wrong", "abstained", "right"];
  const rank = (c) =>
    c.change && FIRST.includes(c.change) ? FIRST.indexOf(c.change) : c.verdict === "failed" ? 3 : 4 + WORST.indexOf(c.status);
  const byText = (key) => (a, b) => (a[key] ?? "").localeCompare(b[key] ?? "");
  const SORTS = {
    "what changed": (a, b) => rank(a) - rank(b),
    "file order": () => 0,
    case: byText("name"),
    label: byText("label"),
    "read as": byText("read"),
    "tokens, most first": (a, b) => b.tokens_in + b.tokens_out - a.tokens_in - a.tokens_out,
    "latency, slowest first": (a, b) => (b.seconds ?? -1) - (a.seconds ?? -1),
    "confidence, surest first": (a, b) => (b.sure ?? -1) - (a.sure ?? -1),
    "confidence, least sure first": (a, b) => (a.sure ?? 2) - (b.sure ?? 2),
    "text, longest first": (a, b) => b.text.length - a.text.length,
  };
  const SIGNS = { right: "✓", wrong: "✗", missing: "?", abstained: "○", "no reply": "–" };
  const WORDS = { right: "right", wrong: "wrong", missing: "no label", abstained: "abstained", "no reply": "no reply" };
  const CHANGES = { broken: "broke", fixed: "fixed", "other answer": "other answer", new: "new" };
  const VERDICTS = { passed: "passes", failed: "fails", xfailed: "known miss", xpassed: "known miss, right again", missed: "miss" };

  const prompts = JSON.parse(document.getElementById("cases").textContent).map((prompt) => ({
    ...prompt,
    cases: prompt.rows.map((row) => Object.fromEntries(prompt.columns.map((column, at) => [column, row[at]]))),
  }));

  // Hidden characters are written out; a joiner only behind ASCII, as in marks.py.
  const HIDDEN = /(?:(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029])|(?:(?<=^|[\x00-\x7f])[\u200c\u200d])/gu;

  function element(tag, className = "", ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }

  function visible(text) {
    const made = element("bdi");
    made.dir = "auto";
    const lines = text.replaceAll("\r\n", "\n");
    let start = 0;
    for (const match of lines.matchAll(HIDDEN)) {
      const code = "U+" + match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      made.append(lines.slice(start, match.index), element("span", "mark", code));
      start = match.index + match[0].length;
    }
    made.append(lines.slice(start));
    return made;
  }

  function button(className, text, onClick) {
    const made = element("button", className, text);
    made.type = "button";
    made.addEventListener("click", onClick);
    return made;
  }

  const address = (prompt, name) => "#" + encodeURIComponent(prompt).replaceAll("%2F", "/") + "/" + encodeURIComponent(name);

  // As a shell takes it.
  const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

  class Explorer {
    constructor(section, prompt) {
      this.section = section;
      this.prompt = prompt;
      this.cases = prompt.cases;
      this.names = new Set(this.cases.map((c) => c.name));
      this.find = (selector) => section.querySelector(selector);
      this.find(".explorer").hidden = false;
      this.fill();
      this.reset();
      this.listen();
      this.show();
    }

    fill() {
      this.buttons = {};
      for (const [view, [words, fits]] of Object.entries(VIEWS)) {
        const count = this.cases.filter(fits).length;
        if (!count || (count === this.cases.length && view !== "all")) continue;
        const made = button("view", words + " ", () => this.set({ view }));
        made.append(element("span", "count", count.toLocaleString("en")));
        made.dataset.view = view;
        this.buttons[view] = made;
        this.find(".views").append(made);
      }
      const labels = this.prompt.labels.map((label, at) => [String(at), label]);
      const noLabel = this.cases.some((c) => c.read === null) ? [["none", "(no label)"]] : [];
      this.options(".gold", [["", "any"], ...labels]);
      this.options(".read", [["", "any"], ...labels, ...noLabel]);
      const hasConfidence = this.cases.some((c) => c.sure !== null);
      const sorts = Object.keys(SORTS).filter((name) => hasConfidence || !name.startsWith("confidence"));
      this.options(".sort", sorts.map((name) => [name, name]));
    }

    options(selector, pairs) {
      for (const [value, words] of pairs) {
        const option = element("option", "", words.length > 40 ? words.slice(0, 39) + "…" : words);
        option.value = value;
        this.find(selector).append(option);
      }
    }

    listen() {
      let waiting;
      this.find(".search").addEventListener("input", (event) => {
        clearTimeout(waiting);
        waiting = setTimeout(() => this.set({ search: event.target.value }), 120);
      });
      for (const name of ["gold", "read", "sort"])
        this.find("." + name).addEventListener("change", (event) => this.set({ [name]: event.target.value }));
      this.find(".reset").addEventListener("click", () => {
        this.reset();
        this.show();
        this.find(".search").focus();
      });
      this.find(".previous").addEventListener("click", () => this.turn(-1));
      this.find(".next").addEventListener("click", () => this.turn(1));
    }

    reset() {
      this.wanted = { view: "all", search: "", gold: "", read: "", sort: "what changed" };
      this.page = 0;
      this.open = null;
    }

    set(change) {
      Object.assign(this.wanted, change);
      this.page = 0;
      this.show();
    }

    turn(by) {
      this.page += by;
      this.show();
      this.find(".state").scrollIntoView({ block: "start" });
      this.find(".rows summary")?.focus({ preventScroll: true });
    }

    filtered() {
      const { view, search, gold, read, sort } = this.wanted;
      const fits = VIEWS[view][1];
      const words = search.trim().toLowerCase();
      const label = gold === "" ? null : this.prompt.labels[gold];
      const answer = read === "" || read === "none" ? null : this.prompt.labels[read];
      const found = this.cases.filter(
        (c) =>
          fits(c) &&
          (label === null || c.label === label) &&
          (read === "" || (read === "none" ? c.read === null && c.reply !== null : c.read === answer)) &&
          (!words || this.haystack(c).includes(words)),
      );
      return sort === "file order" ? found : found.sort(SORTS[sort]);
    }

    haystack(c) {
      c.haystack ??= [c.name, c.text, c.label, c.read, c.reply, c.note, c.error].join("\n").toLowerCase();
      return c.haystack;
    }

    show() {
      const found = this.filtered();
      const pages = Math.max(1, Math.ceil(found.length / PAGE_SIZE));
      this.page = Math.min(Math.max(0, this.page), pages - 1);
      const start = this.page * PAGE_SIZE;
      const shown = found.slice(start, start + PAGE_SIZE);
      this.find(".rows").replaceChildren(...shown.map((c) => this.row(c, c.name === this.open)));
      this.find(".rows").start = start + 1;
      this.say(found.length, start, shown.length);
      this.find(".pager").hidden = pages === 1;
      this.find(".page").textContent = `Page ${(this.page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
      this.find(".previous").disabled = this.page === 0;
      this.find(".next").disabled = this.page === pages - 1;
      this.mirror();
    }

    say(found, start, shown) {
      const all = this.cases.length.toLocaleString("en");
      const range = shown < found ? `${(start + 1).toLocaleString("en")}–${(start + shown).toLocaleString("en")} of ` : "";
      const total = found === this.cases.length ? `${all} cases` : `${found.toLocaleString("en")} of ${all} cases`;
      this.find(".found").textContent = found ? range + total : `No case fits: 0 of ${all}`;
    }

    // Shows in the controls, and in the confusion matrix, what is asked for.
    mirror() {
      const { view, search, gold, read, sort } = this.wanted;
      for (const [name, made] of Object.entries(this.buttons)) made.setAttribute("aria-pressed", String(name === view));
      for (const [name, value] of Object.entries({ search, gold, read, sort })) {
        const control = this.find("." + name);
        if (control.value !== value) control.value = value;
      }
      this.find(".reset").hidden = view === "all" && !search && gold === "" && read === "";
      for (const cell of document.querySelectorAll(`.cell[data-prompt="${this.section.dataset.prompt}"]`))
        cell.setAttribute("aria-pressed", String(cell.dataset.gold === gold && cell.dataset.read === read));
    }

    row(c, isOpen) {
      const details = element("details");
      const tone = c.status === "right" ? "good" : ["no reply", "abstained"].includes(c.status) ? "plain" : "bad";
      const badge = CHANGES[c.change] ? element("span", "badge " + c.change.replace(" ", "-"), CHANGES[c.change]) : "";
      const short = c.text.slice(0, SNIPPET);
      const text = element("span", "text", visible(short === c.text ? short : short + "…"));
      const state = element("span", "state-word " + tone, `${SIGNS[c.status]} ${WORDS[c.status]}`);
      if (c.verdict === "failed") state.append(element("span", "fails", " fails"));
      details.append(element("summary", "", state, element("span", "name", visible(c.name)), text, this.answer(c, badge)));
      if (isOpen) this.openRow(details, c);
      details.addEventListener("toggle", () => {
        if (!details.open || isOpen) return;
        this.openRow(details, c);
        this.open = c.name;
        this.remember(c);
      });
      const item = element("li", "case", details);
      item.dataset.case = c.name;
      return item;
    }

    answer(c, badge) {
      const read = c.read === null ? element("em", "", c.reply === null ? "no reply" : "no label") : visible(c.read);
      const arrow = element("span", "arrow", " → ");
      const said = c.status === "right" ? [visible(c.label)] : [visible(c.label), arrow, read];
      return element("span", "answer", ...said, badge ? " " : "", badge);
    }

    openRow(details, c) {
      if (details.childElementCount === 1) details.append(this.body(c));
      details.open = true;
    }

    body(c) {
      const list = element("dl", "body");
      const add = (term, ...said) => list.append(element("div", "entry for-" + term.split(" ")[0].toLowerCase(), element("dt", "", term), element("dd", "", ...said)));
      add("Text", this.long(c.text, `Text of ${c.name}`));
      add("Label", visible(c.label));
      if (c.reply !== null) {
        const none = `no label could be read${c.why && ": "}${c.why}`;
        add("Read", c.read === null ? element("em", "", visible(none)) : visible(c.read));
        if (c.answers) add("Answers", visible(c.answers));
        if (c.likely) add("Likely", visible(c.likely));
        if (c.thought) add("Thought", this.long(c.thought, `Thought before the reply to ${c.name}`));
        add("Reply", this.long(c.reply, `Reply to ${c.name}`));
      }
      if (c.stop) add("Stopped", c.stop);
      if (c.error) add("Problem", visible(c.error));
      if (c.note) add("Note", visible(c.note));
      if (c.before) add("Baseline", WORDS[c.before], ...(c.before === "wrong" ? [", read ", visible(c.before_read ?? "")] : []));
      add("Case", VERDICTS[c.verdict] ?? c.verdict);
      if (c.reply !== null) add("Tokens", `${c.tokens_in.toLocaleString("en")} in, ${c.tokens_out.toLocaleString("en")} out`);
      if (c.seconds !== null) add("Latency", `${c.seconds.toLocaleString("en")} s`);
      add("Place", element("code", "", visible(c.place)));
      add("Select it", element("code", "", visible(`pytest --promptfit ${quoted(`${this.prompt.path}::${c.name}`)}`)));
      const link = element("a", "", "to this case");
      link.href = address(this.prompt.name, c.name);
      add("Link", link);
      return list;
    }

    long(text, name) {
      const made = element("div", "pre", visible(text));
      made.tabIndex = 0;
      made.setAttribute("role", "region");
      made.setAttribute("aria-label", name.slice(0, 120));
      return made;
    }

    remember(c) {
      const target = address(this.prompt.name, c.name);
      if (location.hash !== target) history.replaceState(null, "", target);
    }

    // Opens one case, wherever the filters have left it.
    reveal(name) {
      if (!this.names.has(name)) return false;
      const isThere = () => this.filtered().findIndex((c) => c.name === name);
      let at = isThere();
      if (at < 0) {
        this.reset();
        at = isThere();
      }
      this.open = name;
      this.page = Math.floor(at / PAGE_SIZE);
      this.show();
      const item = [...this.find(".rows").children].find((row) => row.dataset.case === name);
      item.scrollIntoView({ block: "start" });
      item.querySelector("summary").focus({ preventScroll: true });
      return true;
    }

    // On paper there is nothing to open: print what fits the filters, and all of what is not right.
    unfold() {
      const found = this.filtered().slice(0, PRINTED);
      this.find(".rows").replaceChildren(...found.map((c) => this.row(c, c.status !== "right")));
      this.find(".rows").start = 1;
      this.say(this.filtered().length, 0, found.length);
    }
  }

  const explorers = [...document.querySelectorAll("section.cases")].map(
    (section) => new Explorer(section, prompts[section.dataset.prompt - 1]),
  );
  document.documentElement.classList.remove("static");

  function reveal() {
    let wanted = location.hash.slice(1);
    try {
      wanted = decodeURIComponent(wanted);
    } catch {
      return; // not one of our links
    }
    const step = document.getElementById(location.hash.slice(1))?.querySelector(".step > details");
    if (step) step.open = true;
    for (const explorer of explorers)
      if (wanted.startsWith(explorer.prompt.name + "/") && explorer.reveal(wanted.slice(explorer.prompt.name.length + 1))) return;
  }

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-prompt][data-view], .cell[data-prompt], a[href^='#']");
    if (!target) return;
    if (target.matches("a")) {
      // A link to where we are already changes no hash, and still is to be followed.
      if (target.getAttribute("href") === location.hash) reveal();
      return;
    }
    const explorer = explorers.find((one) => one.section.dataset.prompt === target.dataset.prompt);
    const { gold, read, view } = target.dataset;
    const isPressed = target.getAttribute("aria-pressed") === "true";
    explorer.reset();
    if (view) explorer.set({ view });
    else if (isPressed) explorer.show();
    else explorer.set({ gold, read, view: explorer.buttons.labeled ? "labeled" : "all" });
    explorer.section.scrollIntoView({ block: "start" });
    (isPressed ? target : explorer.find(".rows summary"))?.focus({ preventScroll: true });
  });

  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll(".step > details:not([open])")];
    for (const details of folded) details.open = true;
    for (const explorer of explorers) explorer.unfold();
  });
  addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
    for (const explorer of explorers) explorer.show();
  });
  addEventListener("hashchange", reveal);
  reveal();
})();
