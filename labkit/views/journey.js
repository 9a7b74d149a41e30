// The six hops of each rotation: the chosen one hop by hop, all as bars on one scale.

const MARKS = { done: "✓", unseen: "○", "under way": "…", stalled: "!", overtaken: "»", unproven: "?" };
const CLASSES = { done: "lk-good", unseen: "lk-wait", "under way": "lk-wait", stalled: "lk-bad", overtaken: "lk-soft", unproven: "lk-soft" };
const ARRIVED = ["done", "unseen"];
const TICK = 250; // ms between two steps of what counts on
const LONG = 20; // s that a waiting bar may have at least
const CALM = 400; // ms that several changes get to become one announcement

const seconds = (value) => `${value.toFixed(value >= 100 ? 0 : 3)} s`;

/** One bar: a piece for each gap between two hops, and one for the time that is passing. */
function bar() {
  const pieces = [1, 2, 3, 4, 5].map((number) => make("span", { class: `lk-piece lk-piece-${number}` }));
  const passing = make("span", { class: "lk-piece lk-passing" });
  const node = make("span", { class: "lk-bar", "aria-hidden": "true" }, ...pieces, passing);
  const width = (piece, length, scale) => { piece.style.width = scale > 0 ? `${(100 * length) / scale}%` : "0"; };
  return {
    node,
    draw(rotation, scale, elapsed) {
      let before = 0;
      pieces.forEach((piece, i) => {
        const at = rotation.hops[i + 1].seconds;
        piece.hidden = at === null;
        if (at === null) return;
        width(piece, at - before, scale);
        before = at;
      });
      passing.hidden = elapsed === null;
      if (elapsed !== null) width(passing, Math.max(0, elapsed - before), scale);
    },
  };
}

function hopRow() {
  const mark = make("span", { class: "lk-mark", "aria-hidden": "true" });
  const label = make("span", { class: "lk-label" });
  const time = make("span", { class: "lk-time" });
  const evidence = make("span", { class: "lk-evidence lk-soft" });
  const node = make("li", {}, mark, label, time, evidence);
  return {
    node,
    draw(hop, rotation, elapsed) {
      const isNext = hop.name === rotation.waits;
      const state = hop.seconds !== null ? "done" : isNext ? rotation.progress : "later";
      node.className = `lk-hop ${CLASSES[state] ?? "lk-soft"}`;
      node.setAttribute("aria-current", isNext && elapsed !== null ? "step" : "false");
      set(mark, MARKS[state] ?? "·");
      set(label, hop.label);
      set(time, hop.seconds !== null ? `+${seconds(hop.seconds)}` : isNext && rotation.counts ? rotation.word : "not yet");
      set(evidence, hop.seconds !== null ? hop.evidence : isNext ? rotation.why : "");
    },
  };
}

function render({ model, el }) {
  let chosen = null; // the start of the rotation that is told; null: the newest
  let skew = 0; // the kernel's clock before this one's, in seconds
  let announcing = 0;
  let announced = "";
  const rows = new Map(); // start → row

  const mode = make("span", { class: "lk-soft" });
  const pause = make("button", { type: "button", onclick: () => { model.set("paused", !model.get("paused")); model.save_changes(); } });
  const note = make("p", { class: "lk-note lk-bad", hidden: "" });
  const title = make("h4");
  const about = make("p", { class: "lk-about lk-soft" });
  const hops = [0, 1, 2, 3, 4, 5].map(hopRow);
  const list = make("ol", { class: "lk-hops", "aria-label": "Hops of the rotation" }, ...hops.map((hop) => hop.node));
  const compare = make("ul", { class: "lk-rotations" });
  const scale = make("p", { class: "lk-scale lk-soft" });
  const live = make("div", { class: "lk-hidden", role: "status", "aria-live": "polite" });
  const key = make("p", { class: "lk-key lk-soft", "aria-hidden": "true" });
  const detail = make("section", { "aria-label": "One rotation" }, title, about, list);
  const all = make("section", { "aria-label": "All rotations" }, make("h4", {}, "Side by side"), compare, scale, key);
  const root = make(
    "section", { class: "lk lk-journey", "aria-label": "The secret's journey" },
    make("div", { class: "lk-head" }, make("h3", {}, "The secret's journey"), mode, pause),
    note, detail, all, live,
  );
  el.append(root);

  const now = () => Date.now() / 1000 + skew;
  const elapsedOf = (each) => (each.counts && !model.get("paused") ? Math.max(0, now() - each.started) : null);

  function row(each) {
    const text = make("span", { class: "lk-name" });
    const state = make("span", { class: "lk-word" });
    const one = bar();
    const button = make("button", { type: "button", onclick: () => { chosen = each.started; draw(); } }, text, one.node, state);
    return { node: make("li", {}, button), button, text, state, bar: one };
  }

  function draw() {
    const state = model.get("state");
    const told = state.rotations.find((each) => each.started === chosen) ?? state.rotations[0];
    set(mode, state.mode);
    set(pause, model.get("paused") ? "Go on" : "Pause");
    pause.setAttribute("aria-pressed", model.get("paused"));
    note.hidden = !state.note;
    set(note, state.note);
    all.hidden = list.hidden = !told;
    if (!told) { set(title, state.said); set(about, ""); return; }
    // What waits grows, but does not squeeze the others to nothing.
    const most = Math.max(LONG, 1.25 * state.scale);
    const full = Math.max(state.scale, ...state.rotations.map((each) => Math.min(most, elapsedOf(each) ?? 0)));
    const elapsed = elapsedOf(told);
    set(title, `${MARKS[told.progress]} Version ${told.version}: ${told.word}`
      + (elapsed !== null ? `, ${elapsed.toFixed(1)} s so far` : ARRIVED.includes(told.progress) ? ` after ${seconds(told.reached)}` : "")
      + (told.progress === "unseen" ? ", and no page has shown it" : ""));
    title.className = CLASSES[told.progress];
    const left = told.due ? told.due - now() : 0;
    set(about, `Written by ${told.by}; ESO ${told.how === "forced sync" ? "was asked to read it at once (forced sync)" : "reads at its refreshInterval"}.`
      + (told.progress === "under way" && left > 0 ? ` Expected within ${Math.ceil(left)} s.` : "")
      + (told.longest ? ` The ${told.longest}.` : ""));
    told.hops.forEach((hop, i) => hops[i].draw(hop, told, elapsed));
    const present = new Set(state.rotations.map((each) => each.started));
    for (const [started, gone] of rows) if (!present.has(started)) { gone.node.remove(); rows.delete(started); }
    state.rotations.forEach((each, i) => {
      if (!rows.has(each.started)) rows.set(each.started, row(each));
      const line = rows.get(each.started);
      if (compare.children[i] !== line.node) compare.insertBefore(line.node, compare.children[i] ?? null);
      const far = elapsedOf(each);
      const length = far !== null ? `${each.word}, ${far.toFixed(1)} s`
        : each.progress === "done" ? seconds(each.reached)
        : each.progress === "unseen" ? `${seconds(each.reached)}, unseen` : each.word;
      set(line.text, `v${each.version} ${each.how === "forced sync" ? "forced" : "interval"}`);
      set(line.state, `${MARKS[each.progress]} ${length}`);
      line.state.className = `lk-word ${CLASSES[each.progress]}`;
      line.button.setAttribute("aria-pressed", each === told);
      line.button.setAttribute("aria-label", `${each.said} Show it hop by hop.`);
      line.bar.draw(each, full, far);
    });
    set(scale, full > 0 ? `Every bar is on one scale: its whole width is ${seconds(full)}.` : "");
    key.replaceChildren(...told.hops.slice(1).map((hop, i) =>
      make("span", {}, make("span", { class: `lk-swatch lk-piece-${i + 1}` }), `until ${hop.label}`)));
  }

  // Short sentences, and only the last of a burst.
  function announce() {
    const { said, note: problem } = model.get("state");
    const text = problem || said;
    if (text === announced) return;
    announced = text;
    clearTimeout(announcing);
    announcing = setTimeout(() => { live.textContent = text; }, CALM);
  }

  function changed() {
    const { now: told, rotations } = model.get("state");
    skew = told - Date.now() / 1000;
    if (chosen !== null && !rotations.some((each) => each.started === chosen)) chosen = null;
    draw();
    announce();
  }

  let newest = model.get("state").rotations[0]?.started;
  function arrived() {
    const first = model.get("state").rotations[0]?.started;
    if (first !== newest) { newest = first; chosen = null; } // a new one is what people wait for
    changed();
  }

  const ticking = setInterval(() => { if (model.get("state").rotations.some((each) => elapsedOf(each) !== null)) draw(); }, TICK);
  model.on("change:state", arrived);
  model.on("change:paused", draw);
  announced = model.get("state").said; // what is there already is no news
  skew = 0;
  draw();
  return () => {
    clearInterval(ticking);
    clearTimeout(announcing);
    model.off("change:state", arrived);
    model.off("change:paused", draw);
  };
}

export default { render };
