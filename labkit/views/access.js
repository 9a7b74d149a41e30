// A table of identities and things: each cell tries one real read, and says what decided it.

const MARKS = { allowed: "✓", denied: "✗", failed: "?" };
const CLASSES = { allowed: "lk-good", denied: "lk-bad", failed: "lk-wait" };

// Long names may break after their separators, and nowhere else.
function breakable(text) {
  return text.split(/(?<=[/_-])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

function head(scope, entry) {
  return make("th", { scope }, ...breakable(entry.title), make("small", {}, entry.about));
}

function groups(columns) {
  const found = [];
  for (const { group } of columns) {
    const last = found.at(-1);
    if (last?.group === group) last.span += 1;
    else found.push({ group, span: 1 });
  }
  return found.map(({ group, span }) => make("th", { scope: "colgroup", colspan: span }, group));
}

function render({ model, el }) {
  const { rows, columns } = model.get("state"); // these never change; the cells do
  const buttons = new Map(); // "row-column" → button
  const waiting = new Set();
  let chosen = null;
  let before = model.get("state").cells;
  let timer = 0;

  const cells = () => model.get("state").cells;
  const live = make("div", { class: "lk-hidden", role: "status", "aria-live": "polite" });
  const summary = make("span", { class: "lk-soft" });
  const all = make("button", { type: "button", onclick: () => ask("try-all") }, "Try all");
  const forget = make("button", { type: "button", onclick: () => ask("forget") }, "Clear");
  const problem = make("p", { class: "lk-bad", hidden: "" });
  const details = make("section", { "aria-label": "What decided it", hidden: "" });

  function ask(name, more = {}) {
    all.disabled = true;
    if (name === "try-all") say("Trying every read.");
    model.send({ do: name, ...more });
  }

  // Short sentences, and only the last of a burst.
  function say(text) {
    clearTimeout(timer);
    timer = setTimeout(() => { live.textContent = text; }, 250);
  }

  function read(key) {
    const [row, column] = key.split("-").map(Number);
    waiting.add(key);
    paint(key);
    ask("try", { row, column });
  }

  function choose(key) {
    chosen = key;
    for (const [each, button] of buttons) button.setAttribute("aria-current", each === key);
    if (!cells()[key] && !waiting.has(key)) read(key);
    explain();
  }

  function titleOf(key) {
    const [row, column] = key.split("-").map(Number);
    return `${rows[row].name} reads ${columns[column].title}`;
  }

  function paint(key) {
    const button = buttons.get(key);
    const cell = cells()[key];
    const word = waiting.has(key) ? "Trying…" : cell ? cell.word : "Not tried";
    const mark = waiting.has(key) || !cell ? "" : `${MARKS[cell.outcome]} `;
    button.className = waiting.has(key) || !cell ? "lk-soft" : CLASSES[cell.outcome];
    button.textContent = mark + word;
    button.setAttribute("aria-label", `${word}: ${titleOf(key)}`);
  }

  function explain() {
    const cell = chosen && cells()[chosen];
    details.hidden = !cell;
    if (!cell) return;
    const parts = [
      ["Decided by", "p", cell.rule],
      ["The rule's text", "pre", cell.text.trim()],
      ["Answer", "p", cell.said],
      ["The same in a terminal", "pre", cell.command],
    ].filter(([, , text]) => text);
    const again = make("button", { type: "button", onclick: () => read(chosen) }, "Read again");
    const when = new Date(cell.at * 1000).toLocaleTimeString([], { hour12: false });
    const hadFocus = details.contains(document.activeElement);
    details.replaceChildren(
      make("h4", {}, `${MARKS[cell.outcome]} ${cell.word}: ${titleOf(chosen)}`),
      ...parts.flatMap(([name, tag, text]) => [make("h5", {}, name), make(tag, {}, text)]),
      again, " ", make("span", { class: "lk-soft" }, `tried at ${when}`),
    );
    if (hadFocus) again.focus();
  }

  // Arrow keys move between cells; Tab leaves the table.
  function move(event) {
    const key = event.target.dataset?.key;
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -99], End: [0, 99] };
    if (!key || !steps[event.key]) return;
    event.preventDefault();
    const [row, column] = key.split("-").map(Number);
    const [down, right] = steps[event.key];
    const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));
    const next = buttons.get(`${clamp(row + down, rows.length)}-${clamp(column + right, columns.length)}`);
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  function cellAt(row, column) {
    const key = `${row}-${column}`;
    const button = make("button", { type: "button", "data-key": key, tabindex: key === "0-0" ? 0 : -1,
      onclick: (event) => {
        for (const each of buttons.values()) each.tabIndex = each === event.currentTarget ? 0 : -1;
        choose(key);
      } });
    buttons.set(key, button);
    return make("td", {}, button);
  }

  function refresh() {
    const now = cells();
    const news = Object.keys(now).filter((key) => now[key].at !== before[key]?.at);
    const isCleared = Object.keys(before).length > 0 && Object.keys(now).length === 0;
    for (const key of news) waiting.delete(key);
    before = now;
    for (const key of buttons.keys()) paint(key);
    summary.textContent = model.get("state").summary;
    forget.disabled = Object.keys(now).length === 0;
    if (news.length === 1) say(`${titleOf(news[0])}: ${now[news[0]].word}.`);
    else if (news.length || isCleared) say(`${summary.textContent}.`);
    explain();
  }

  function answered(message) {
    all.disabled = false;
    waiting.clear();
    for (const key of buttons.keys()) paint(key);
    problem.hidden = !message.error;
    problem.textContent = message.error ?? "";
    if (message.error) say(message.error);
  }

  const table = make("table", { onkeydown: move },
    make("caption", {}, "Each cell is one real read. Enter tries it or says what decided; arrow keys move."),
    make("thead", {},
      make("tr", {}, make("th", { scope: "col", rowspan: 2 }, "Who reads"), ...groups(columns)),
      make("tr", {}, ...columns.map((each) => head("col", each)))),
    make("tbody", {}, ...rows.map((each, row) =>
      make("tr", {}, head("row", each), ...columns.map((_, column) => cellAt(row, column))))));

  const root = make("div", { class: "lk lk-access", role: "group", "aria-label": "Who can read what",
    "data-lm-suppress-shortcuts": "true" }, // JupyterLab's own keys would move its cells
    make("div", { class: "lk-bar" }, make("h3", {}, "Who can read what"), all, forget, summary),
    problem, table, details, live);
  el.append(root);
  refresh();
  model.on("change:state", refresh);
  model.on("msg:custom", answered);
  return () => {
    clearTimeout(timer);
    model.off("change:state", refresh);
    model.off("msg:custom", answered);
  };
}

export default { render };
