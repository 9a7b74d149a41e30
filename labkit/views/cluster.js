// A map from Vault to the pods: cards in rows, arrows between them, one object close up.

const MARKS = { ok: "✓", progressing: "…", bad: "!", unknown: "?" };
const CLASSES = { ok: "lk-good", progressing: "lk-wait", bad: "lk-bad", unknown: "lk-soft" };
const CALM = 400; // ms that several changes get to become one announcement
const SHOWN = 30; // seconds that a Secret's values stay on the screen
const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes, text = "") {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });
// Long names may break after their separators and before a capital, and nowhere else.
const breakable = (text) => text.split(/(?<=[/_-])|(?<=[a-z])(?=[A-Z])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));

function card(thing, onclick) {
  const name = make("span", { class: "lk-name" }, ...breakable(thing.name));
  const health = make("span", { class: "lk-health" });
  const when = make("span", { class: "lk-when" });
  const kind = make("span", { class: "lk-kind" }, [thing.kind, thing.namespace].filter(Boolean).join(" · "));
  const button = make("button", { type: "button", "aria-expanded": "false", onclick }, kind, name, health, when);
  const node = make("li", {}, button);
  let before = thing.changed_at;
  function update(now) {
    button.className = `lk-card lk-is-${now.health}`;
    health.className = `lk-health ${CLASSES[now.health]}`;
    set(health, `${MARKS[now.health]} ${now.word}${now.message && now.message !== now.word ? `: ${now.message}` : ""}`);
    set(when, `changed ${clock(now.changed_at)}`);
    button.setAttribute("aria-label", [`${now.title}: ${now.word}`, now.message, ...now.links, `changed ${clock(now.changed_at)}`].filter(Boolean).join(", "));
    if (now.changed_at > before) { // begin the animation anew
      button.classList.remove("lk-new");
      void button.offsetWidth;
      button.classList.add("lk-new");
    }
    before = now.changed_at;
  }
  update(thing);
  return { node, button, update };
}

/** The way of one arrow between two boxes, and where its word stands. */
function way(a, b) {
  const middle = (box) => box.x + box.width / 2;
  if (a.y < b.y + b.height && b.y < a.y + a.height) { // side by side
    const [x1, x2] = a.x < b.x ? [a.x + a.width, b.x - 3] : [a.x, b.x + b.width + 3];
    const y = (Math.max(a.y, b.y) + Math.min(a.y + a.height, b.y + b.height)) / 2;
    return { path: `M${x1},${y} L${x2},${y}`, x: (x1 + x2) / 2, y: y - 9, anchor: "middle" };
  }
  const [y1, y2] = a.y < b.y ? [a.y + a.height, b.y - 3] : [a.y, b.y + b.height + 3];
  const left = Math.max(a.x, b.x), right = Math.min(a.x + a.width, b.x + b.width);
  const [x1, x2] = right - left > 24 ? [left + 24, left + 24] : [middle(a), middle(b)];
  const bend = (y2 - y1) / 2;
  return { path: `M${x1},${y1} C${x1},${y1 + bend} ${x2},${y2 - bend} ${x2},${y2}`, x: (x1 + x2) / 2 + 7, y: (y1 + y2) / 2, anchor: "start" };
}

function render({ model, el }) {
  const me = Math.random().toString(36).slice(2); // which of several tabs asked for values
  const cards = new Map(); // uid → card
  let before = new Map(); // uid → thing, as announced
  let chosen = null; // uid
  let announcing = 0, hiding = 0, frame = 0;

  const pause = make("button", { type: "button", onclick: () => { model.set("paused", !model.get("paused")); model.save_changes(); } });
  const note = make("p", { class: "lk-note lk-bad", hidden: "" });
  const svg = draw("svg", { class: "lk-arrows", "aria-hidden": "true" });
  const map = make("div", { class: "lk-map" }, svg);
  const live = make("div", { class: "lk-hidden", role: "status", "aria-live": "polite" });
  const title = make("h4", { tabindex: "-1" });
  const about = make("p");
  const values = make("div", { class: "lk-values" });
  const reveal = make("button", { type: "button", onclick: () => (values.childElementCount ? hide(true) : ask("reveal", { for: me })) });
  const close = make("button", { type: "button", onclick: () => choose(null) }, "Close");
  const text = make("div");
  const details = make("section", { class: "lk-details", "aria-label": "Details", hidden: "", onkeydown: (event) => { if (event.key === "Escape") choose(null); } },
    title, about, make("div", { class: "lk-tools" }, reveal, close), values, text);
  const root = make("section", { class: "lk lk-cluster", "aria-label": "Map of the cluster", "data-lm-suppress-shortcuts": "true" },
    make("div", { class: "lk-head" }, make("h3", {}, "Map of the cluster"), pause,
      make("span", { class: "lk-soft" }, "Solid arrow: owns. Dashed: uses. Press a card for its YAML and events.")),
    note, map, details, live);
  el.append(root);

  const things = () => new Map(model.get("state").rows.flatMap((row) => row.things).map((thing) => [thing.uid, thing]));

  function say(words) {
    clearTimeout(announcing);
    announcing = setTimeout(() => { live.textContent = words; }, CALM);
  }

  function ask(name, more = {}) {
    const thing = things().get(chosen);
    if (thing) model.send({ do: name, uid: thing.uid, kind: thing.kind, namespace: thing.namespace, name: thing.name, ...more });
  }

  function choose(uid) {
    const last = chosen;
    chosen = uid === chosen ? null : uid;
    for (const [each, { button }] of cards) button.setAttribute("aria-expanded", each === chosen);
    hide();
    text.replaceChildren();
    explain();
    if (chosen) { ask("look"); title.focus(); details.scrollIntoView({ block: "nearest" }); }
    else cards.get(last)?.button.focus();
  }

  /** What is known of the chosen one without asking. */
  function explain() {
    const thing = things().get(chosen);
    details.hidden = !chosen;
    if (!chosen) return;
    set(title, thing ? thing.title : `${title.textContent.replace(/, which is gone$/, "")}, which is gone`);
    if (!thing) { set(about, ""); hide(); text.replaceChildren(); reveal.hidden = true; return; }
    reveal.hidden = thing.kind !== "Secret";
    const state = `${MARKS[thing.health]} ${thing.word}${thing.message ? `: ${thing.message}` : ""}. Changed ${clock(thing.changed_at)}.`;
    about.replaceChildren(state, ...thing.links.flatMap((link) => [make("br"), link]));
  }

  /** Take values off the screen. */
  function hide(isSaid = false) {
    clearTimeout(hiding);
    values.replaceChildren();
    set(reveal, `Reveal its values for ${SHOWN} s`);
    if (isSaid) say("The values are masked again.");
  }

  function answered(message) {
    if (message.uid !== chosen) return;
    if (message.error) { text.replaceChildren(make("p", { class: "lk-bad" }, message.error)); say(message.error); return; }
    if (message.did === "look" && message.found) {
      const { yaml, events, commands } = message.found;
      text.replaceChildren(
        make("h5", {}, "Events"),
        events.length ? make("ul", {}, ...events.map((event) => make("li", {}, `${clock(event.at)} ${event.type} ${event.reason}${event.count > 1 ? ` (${event.count} times)` : ""}: ${event.message}`))) : make("p", {}, "none in the last hour"),
        make("h5", {}, "YAML"), make("pre", { tabindex: "0", role: "region", "aria-label": "YAML" }, yaml),
        make("h5", {}, "The same in a terminal"), make("pre", {}, commands.join("\n")));
    }
    if (message.did === "reveal" && message.for === me) {
      hide();
      for (const [key, value] of Object.entries(message.values)) values.append(make("h5", {}, key), make("pre", { "aria-label": key }, value));
      values.append(make("h5", {}, "The same in a terminal"), make("pre", {}, message.command));
      set(reveal, "Mask them again");
      say(`The values are shown for ${SHOWN} seconds.`);
      hiding = setTimeout(() => hide(true), SHOWN * 1000);
    }
  }

  const rows = new Map(); // title → {node, list, none}
  function rowOf(name) {
    if (!rows.has(name)) {
      const heading = make("h4", {}, ...breakable(name));
      const list = make("ul", { "aria-label": name });
      const none = make("span", { class: "lk-soft" }, "none");
      const node = make("div", { class: "lk-row" }, heading, list, none);
      rows.set(name, { node, list, none });
      map.append(node);
    }
    return rows.get(name);
  }

  function place(list, nodes) {
    nodes.forEach((node, i) => { if (list.children[i] !== node) list.insertBefore(node, list.children[i] ?? null); });
  }

  function update() {
    const { rows: shown, note: problem } = model.get("state");
    const now = things();
    for (const [uid, gone] of cards) if (!now.has(uid)) { gone.node.remove(); cards.delete(uid); }
    for (const { title: name, things: members } of shown) {
      const { list, none } = rowOf(name);
      for (const thing of members) {
        if (cards.has(thing.uid)) cards.get(thing.uid).update(thing);
        else cards.set(thing.uid, card(thing, () => choose(thing.uid)));
      }
      place(list, members.map((thing) => cards.get(thing.uid).node));
      list.hidden = !members.length;
      none.hidden = members.length > 0;
    }
    set(pause, model.get("paused") ? "Go on" : "Pause");
    pause.setAttribute("aria-pressed", model.get("paused"));
    note.hidden = !problem;
    set(note, problem);
    announce(now);
    arrowsSoon();
  }

  function announce(now) {
    const differs = (a, b) => !b || a.health !== b.health || a.message !== b.message || a.changed_at !== b.changed_at;
    const changed = [...now.values()].filter((thing) => differs(thing, before.get(thing.uid)));
    const gone = [...before.values()].filter((thing) => !now.has(thing.uid));
    if (chosen && (changed.some(({ uid }) => uid === chosen) || gone.some(({ uid }) => uid === chosen))) {
      hide(); // what was revealed may be the old values
      explain();
      ask("look");
    }
    const told = [...changed.map((thing) => `${thing.title} ${before.has(thing.uid) ? "changed" : "is new"}: ${thing.word}.`), ...gone.map((thing) => `${thing.title} is gone.`)];
    if (told.length) say(told.length > 3 ? `${told.length} things changed. ${told[0]}` : told.join(" "));
    before = now;
  }

  const arrowsSoon = () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(arrows); };
  function arrows() {
    const origin = map.getBoundingClientRect();
    const box = (uid) => {
      const found = cards.get(uid)?.button.getBoundingClientRect();
      return found?.width ? { x: found.x - origin.x, y: found.y - origin.y, width: found.width, height: found.height } : null;
    };
    const tip = draw("marker", { id: `lk-tip-${me}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto-start-reverse" });
    tip.append(draw("path", { d: "M0,0 L8,4 L0,8 z" }));
    const lines = [], words = [];
    for (const { start, end, word, owns } of model.get("state").arrows) {
      const [a, b] = [box(start), box(end)];
      if (!a || !b) continue;
      const { path, x, y, anchor } = way(a, b);
      lines.push(draw("path", { d: path, class: owns ? "lk-owns" : "lk-uses", "marker-end": `url(#lk-tip-${me})` }));
      words.push(draw("text", { x, y, "text-anchor": anchor }, word));
    }
    svg.replaceChildren(tip, ...lines, ...words);
  }

  const sizes = new ResizeObserver(arrowsSoon);
  sizes.observe(map);
  const onHidden = () => { if (document.hidden && values.childElementCount) hide(); };
  document.addEventListener("visibilitychange", onHidden);
  before = things(); // what is there already is no news
  hide();
  update();
  model.on("change:state", update);
  model.on("change:paused", update);
  model.on("msg:custom", answered);
  return () => {
    hide();
    clearTimeout(announcing);
    cancelAnimationFrame(frame);
    sizes.disconnect();
    document.removeEventListener("visibilitychange", onHidden);
    model.off("change:state", update);
    model.off("change:paused", update);
    model.off("msg:custom", answered);
  };
}

export default { render };
