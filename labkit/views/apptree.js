// Applications in the order of their sync waves, each with the tree of what it deploys.

const SYNC = { Synced: ["✓", "lk-good"], OutOfSync: ["≠", "lk-wait"], Unknown: ["?", "lk-soft"] };
const HEALTH = {
  Healthy: ["✓", "lk-good"], Progressing: ["…", "lk-wait"], Degraded: ["!", "lk-bad"],
  Missing: ["∅", "lk-wait"], Suspended: ["‖", "lk-soft"], Unknown: ["?", "lk-soft"],
};
const WORDS = { refresh: "Refresh", sync: "Sync", diff: "Diff" };
const CALM = 400; // ms that several changes get to become one announcement

// Long names may break after their separators and before a capital, and nowhere else.
const breakable = (text) => text.split(/(?<=[/_.-])|(?<=[a-z])(?=[A-Z])/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));

/** A word of sync or health with its mark; words that have none stand alone. */
function state(node, kind, word, marks) {
  const [mark, color] = marks[word] ?? ["", "lk-soft"];
  node.className = `lk-${kind} ${color}`;
  set(node, `${mark} ${word}`.trim());
}

/** Make the children of `list` those of `items`, keeping the parts of those that stay. */
function keep(list, parts, items, key, create) {
  const there = new Set(items.map((item) => item[key]));
  for (const [name, part] of parts) if (!there.has(name)) { part.node.remove(); parts.delete(name); }
  items.forEach((item, i) => {
    if (!parts.has(item[key])) parts.set(item[key], create(item));
    const part = parts.get(item[key]);
    part.update(item);
    if (list.children[i] !== part.node) list.insertBefore(part.node, list.children[i] ?? null);
  });
}

/** One object of a tree, and below it what it owns. */
function branch(first) {
  const sync = make("span"), health = make("span");
  const note = make("span", { class: "lk-note lk-soft" });
  const list = make("ul");
  const parts = new Map();
  const line = make("div", { class: "lk-line" },
    make("span", { class: "lk-what" }, make("span", { class: "lk-kind" }, ...breakable(first.kind)), " ", make("span", { class: "lk-name", title: first.namespace && `in the namespace ${first.namespace}` }, ...breakable(first.name))),
    " ", sync, " ", health, " ", note);
  const node = make("li", {}, line, list);
  function update(now) {
    state(sync, "sync", now.sync, SYNC);
    state(health, "health", now.health, HEALTH);
    set(note, now.note);
    note.hidden = !now.note;
    list.hidden = !now.below.length;
    keep(list, parts, now.below, "key", branch);
  }
  return { node, update };
}

/** Sync and health of everything by its name. */
function states(apps) {
  const found = new Map();
  const add = (app, nodes) => {
    for (const each of nodes) {
      const isCard = each.kind === "Application" && found.has(each.name);
      if (!isCard) found.set(`${app}/${each.key}`, [`${each.kind} ${each.name}`, each.sync, each.health]);
      add(app, each.below);
    }
  };
  for (const app of apps) found.set(app.name, [`Application ${app.name}`, app.sync, app.health]);
  for (const app of apps) add(app.name, app.nodes);
  return found;
}

function render({ model, el }) {
  const cards = new Map();
  let said = states(model.get("state").apps); // what is there already is no news
  let announcing = 0;

  const summary = make("p", { class: "lk-summary" });
  const problem = make("p", { class: "lk-bad", role: "alert" });
  const list = make("div", { class: "lk-apps" });
  const legend = make("p", { class: "lk-soft lk-legend" });
  const live = make("div", { class: "lk-hidden", role: "status", "aria-live": "polite" });
  el.append(make("section", { class: "lk lk-apptree", "aria-label": "Applications" },
    make("h3", {}, "Applications"), summary, problem, list, legend, live));

  function card(first) {
    const name = first.name;
    const sync = make("span"), health = make("span");
    const message = make("p", { class: "lk-message" });
    const told = make("p", { class: "lk-told", "aria-live": "polite" });
    const count = make("summary");
    const tree = make("ul", { class: "lk-tree", "aria-label": `What ${name} deploys` });
    const parts = new Map();
    const buttons = Object.fromEntries(Object.entries(WORDS).map(([what, word]) => {
      const button = make("button", { type: "button", "aria-label": `${word} ${name}`, onclick: () => {
        if (button.getAttribute("aria-disabled") === "true") return;
        set(problem, "");
        model.send({ do: what, app: name });
      } }, word);
      return [what, button];
    }));
    const shown = make("pre", { tabindex: "0", role: "region", "aria-label": `Difference of ${name}` });
    const close = make("button", { type: "button", "aria-label": `Close the difference of ${name}`, onclick: () => hide() }, "Close");
    const differs = make("div", { class: "lk-diff", hidden: "", onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); hide(); } } },
      make("p", {}, "< is the cluster's, > is Git's. Values of Secrets are masked by Argo CD: how many + says only whether they are the same. ", close), shown);
    const node = make("section", { class: "lk-app", "aria-label": `Application ${name}` },
      make("div", { class: "lk-head" }, make("h4", {}, ...breakable(name)), sync, health,
        make("span", { class: "lk-buttons" }, ...Object.values(buttons))),
      message, told, differs, make("details", first.open ? { open: "" } : {}, count, tree));

    function hide() {
      const isInside = differs.contains(document.activeElement);
      differs.hidden = true;
      shown.replaceChildren();
      if (isInside) (buttons.diff.hidden ? buttons.sync : buttons.diff).focus();
    }
    function show(text) {
      shown.replaceChildren(...text.split("\n").map((line) => make("span", { class: line.startsWith("<") ? "lk-there" : line.startsWith(">") ? "lk-git" : null }, `${line}\n`)));
      differs.hidden = !text;
      if (text) { shown.focus(); say(`The difference of ${name} is shown.`); }
    }
    function update(now) {
      state(sync, "sync", now.sync, SYNC);
      state(health, "health", now.health, HEALTH);
      set(message, now.message);
      message.hidden = !now.message;
      message.classList.toggle("lk-bad", now.health === "Degraded" || now.sync === "Unknown");
      set(told, now.told ? `$ ${now.told.line}  ${now.told.ok === null ? "… being done" : `${now.told.ok ? "✓" : "! failed:"} ${now.told.said}`}` : "");
      told.hidden = !now.told;
      told.classList.toggle("lk-bad", now.told?.ok === false);
      for (const [what, button] of Object.entries(buttons)) {
        const { line, why } = now.asks[what];
        button.setAttribute("aria-disabled", why !== "");
        button.title = why || line;
      }
      buttons.diff.hidden = !now.differs;
      if (!now.differs && !differs.hidden) hide();
      set(count, [now.count, now.about].filter(Boolean).join("; "));
      keep(tree, parts, now.nodes, "key", branch);
    }
    return { node, update, show };
  }

  const say = (words) => { live.textContent = words; };

  // What changed since it was last said; a burst becomes one announcement.
  function announce() {
    announcing = 0;
    const now = states(model.get("state").apps);
    const isNews = ([key, [, sync, health]]) => {
      const was = said.get(key);
      return was ? was[1] !== sync || was[2] !== health : !key.includes("/"); // a new Application
    };
    const told = [...now].filter(isNews).sort(([a], [b]) => a.includes("/") - b.includes("/")) // Applications first
      .map(([, [title, sync, health]]) => `${title}: ${[sync, health].filter(Boolean).join(", ")}.`);
    said = now;
    if (told.length) say(told.length > 3 ? `${told.length} changes of sync or health. ${told.slice(0, 2).join(" ")}` : told.join(" "));
  }

  function update() {
    const { summary: words, apps, legend: meaning } = model.get("state");
    set(summary, words);
    set(legend, meaning);
    keep(list, cards, apps, "name", card);
    announcing ||= setTimeout(announce, CALM);
  }

  function answered(message) {
    if (message.error) set(problem, message.error);
    else if (message.did === "diff" && "text" in message) cards.get(message.app)?.show(message.text);
  }

  update();
  model.on("change:state", update);
  model.on("msg:custom", answered);
  return () => {
    clearTimeout(announcing);
    model.off("change:state", update);
    model.off("msg:custom", answered);
  };
}

export default { render };
