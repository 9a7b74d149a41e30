// Buttons that do something to the lab, and what each of them did.

const CALM = 300; // ms that several changes get to become one announcement


/** Command lines: they break between words, not at the dashes of an option. */
function commands(name, lines, prompt = "") {
  const words = lines.flatMap((line, i) => [i ? "\n" : "", prompt, ...line.split(" ").flatMap((word, n) => [n ? " " : "", make("span", {}, word)])]);
  return make("pre", { tabindex: "0", role: "group", "aria-label": `${name} in a terminal` }, ...words);
}

function render({ model, el }) {
  const buttons = new Map();
  const entries = new Map(); // number → its parts
  let announcing = 0;
  let seen = new Map(model.get("state").told.map((each) => [each.number, each.ok]));

  const now = make("p", { class: "lk-now" });
  const problem = make("p", { class: "lk-bad", role: "alert" });
  const live = make("div", { class: "lk-hidden", role: "status", "aria-live": "polite" });
  const log = make("ol", { class: "lk-told", "aria-label": "What was done, newest first" });
  const lines = make("dl");

  // A button that cannot be pressed can still be reached, and says why.
  function button(name, label, press) {
    const node = make("button", {
      type: "button",
      onclick: () => { if (node.getAttribute("aria-disabled") !== "true") press(); },
    }, label);
    buttons.set(name, node);
    return node;
  }
  const does = (name, label) => button(name, label, () => ask(name));
  const row = (title, ...content) => make("div", { class: "lk-row", role: "group", "aria-label": title }, make("span", { class: "lk-title" }, title), make("span", { class: "lk-buttons" }, ...content));

  function ask(name) {
    set(problem, "");
    model.send({ do: name });
  }

  // Stopping Vault destroys something: it is asked about first.
  const sure = make("div", { class: "lk-sure", role: "group", "aria-label": "Stop Vault?", hidden: "" });
  const keep = make("button", { type: "button", onclick: () => close() }, "Keep it running");
  const stop = make("button", { type: "button", onclick: () => { close(); ask("stop-vault"); } }, "Stop it, and forget");
  sure.append(make("p", {}, model.get("state").forgets), stop, " ", keep);
  function close() {
    sure.hidden = true;
    buttons.get("stop-vault").focus();
  }
  sure.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); close(); } });

  const intervals = Object.entries(model.get("state").buttons).filter(([name]) => name.startsWith("every-"));
  const root = make(
    "section", { class: "lk lk-control", "aria-label": "Control of the lab" },
    make("h3", {}, "Control"), now,
    row("A new password", does("rotate", "Rotate now"), does("rotate-later", "Rotate, and wait for ESO")),
    row("ESO reads every", ...intervals.map(([name, { label }]) => does(name, label))),
    row("Break and mend",
      button("stop-vault", "Stop Vault", () => { sure.hidden = false; keep.focus(); }), does("start-vault", "Start Vault"),
      does("pause-eso", "Pause ESO"), does("resume-eso", "Resume ESO")),
    sure, problem, log,
    make("details", {}, make("summary", {}, "The same in a terminal"), lines), live,
  );
  el.append(root);

  // The newest is open; the ones before fold away, unless somebody opened them.
  function entry(each) {
    const title = make("strong");
    const outcome = make("span");
    const last = make("span", { class: "lk-soft" });
    const said = make("ul");
    const code = commands(each.title, each.lines, "$ ");
    const fold = make("details", { open: "" }, make("summary", {}, title, " ", outcome, " ", last), code, said);
    for (const before of entries.values()) before.fold.open = false;
    return { node: make("li", {}, fold), fold, title, outcome, last, said };
  }

  function draw() {
    const state = model.get("state");
    set(now, state.now);
    for (const [name, node] of buttons) {
      const { why } = state.buttons[name];
      node.setAttribute("aria-disabled", why !== "");
      node.title = why || state.buttons[name].lines.join("\n");
      if (name.startsWith("every-")) node.setAttribute("aria-pressed", state.buttons[name].label === state.every);
    }
    if (!sure.hidden && state.buttons["stop-vault"].why) close();
    const present = new Set(state.told.map((each) => each.number));
    for (const [number, parts] of entries) if (!present.has(number)) { parts.node.remove(); entries.delete(number); }
    for (const each of state.told.toReversed()) if (!entries.has(each.number)) entries.set(each.number, entry(each));
    state.told.forEach((each, i) => {
      const parts = entries.get(each.number);
      if (log.children[i] !== parts.node) log.insertBefore(parts.node, log.children[i] ?? null);
      set(parts.title, each.title);
      set(parts.outcome, each.ok === null ? "… being done" : each.ok ? "✓ done" : "! failed");
      parts.outcome.className = each.ok === null ? "lk-wait" : each.ok ? "lk-good" : "lk-bad";
      set(parts.last, each.said.at(-1) ?? "");
      each.said.forEach((line, n) => { if (!parts.said.children[n]) parts.said.append(make("li", {}, line)); });
    });
    if (!lines.children.length || lines.dataset.of !== JSON.stringify(state.buttons.rotate.lines)) {
      lines.dataset.of = JSON.stringify(state.buttons.rotate.lines);
      lines.replaceChildren(...Object.entries(state.buttons).flatMap(([name, each]) => {
        const title = name.startsWith("every-") ? `Read every ${each.label}` : each.label;
        return [make("dt", {}, title), make("dd", {}, commands(title, each.lines))];
      }));
    }
    announce(state.told);
  }

  // What began and what ended since the last look; the last of a burst is read out.
  function announce(told) {
    const news = told.filter((each) => !seen.has(each.number) || seen.get(each.number) !== each.ok);
    seen = new Map(told.map((each) => [each.number, each.ok]));
    if (!news.length) return;
    const text = news.map((each) => (each.ok === null ? `${each.title}: begun.` : `${each.title}: ${each.ok ? "done" : "failed"}. ${each.said.at(-1) ?? ""}`)).join(" ");
    clearTimeout(announcing);
    announcing = setTimeout(() => { live.textContent = text; }, CALM);
  }

  const answered = (message) => { if (message.error) set(problem, message.error); };
  model.on("change:state", draw);
  model.on("msg:custom", answered);
  draw();
  return () => {
    clearTimeout(announcing);
    model.off("change:state", draw);
    model.off("msg:custom", answered);
  };
}

export default { render };
