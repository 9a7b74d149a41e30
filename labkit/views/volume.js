// A mounted Secret: the folder with its links, each swap of ..data as it happens, and the two
// ways beside it that no swap reaches.

const FRESH = 12_000; // ms that a swap is called new
const CALM = 400; // ms that several changes get to become one announcement

const clock = (at) => {
  const date = new Date(at * 1000);
  return `${date.toLocaleTimeString([], { hour12: false })}.${String(date.getMilliseconds()).padStart(3, "0")}`;
};
const code = (text, name = "") => make("code", { class: name }, text);
const arrow = () => make("span", { class: "lk-arrow" }, make("span", { class: "lk-hidden" }, " leads to "), make("span", { "aria-hidden": "true" }, "→"));

/** Long names of folders may break after their separators, and nowhere else. */
function folderName(name, more = "") {
  const parts = name.split(/(?<=_\d\d\.)/);
  return make("code", { class: `lk-dir ${more}` }, ...parts.flatMap((part, i) => (i ? [make("wbr"), part] : [part])));
}

function tree({ target, before, at, files }, isNew) {
  const links = files.map((file) => make("li", {}, code(file), arrow(), code(`..data/${file}`)));
  const data = make("li", { class: isNew ? "lk-fresh" : "" }, code("..data", "lk-strong"), arrow(), folderName(target || "…", "lk-strong"));
  const present = make("li", {},
    folderName(`${target || "…"}/`), make("span", { class: "lk-tag lk-good" }, before ? `✓ new at ${clock(at)}` : `✓ written at ${clock(at)}`),
    make("ul", {}, ...files.map((file) => make("li", {}, code(file), make("span", { class: "lk-soft" }, "the file itself")))));
  const old = before && make("li", {},
    folderName(`${before}/`, "lk-gone"), make("span", { class: "lk-tag lk-soft" }, "✗ removed after the swap"));
  return [...links, data, present, old || null].filter(Boolean);
}

function way({ kind, title, where, mark, changed, same, word, at }) {
  return make("li", { class: same ? "" : "lk-old", "data-kind": kind },
    make("h5", {}, title), make("p", { class: "lk-soft" }, code(where)),
    make("p", {}, "mark ", code(mark, "lk-strong")),
    make("p", { class: `lk-word ${!same ? "lk-wait" : changed ? "lk-good" : ""}` }, `${!same ? "≠" : changed ? "✓" : "="} ${word}`),
    make("p", { class: "lk-soft" }, `read at ${clock(at).slice(0, -4)}`));
}

function render({ model, el }) {
  let fading = 0;
  let announcing = 0;
  let newest = model.get("state").swaps[0]?.at ?? 0; // what is there already is no news
  let freshUntil = 0;
  let busy = false;

  const title = make("h3");
  const about = make("span", { class: "lk-soft" });
  const pause = make("button", { type: "button", onclick: () => { model.set("paused", !model.get("paused")); model.save_changes(); } });
  const note = make("p", { class: "lk-note lk-wait", hidden: "" });
  const links = make("ul", { class: "lk-tree", "aria-label": "The folder's content" });
  const history = make("ol", { class: "lk-swaps" });
  const swaps = make("section", { "aria-label": "Swaps" }, make("h4", {}, "Swaps"), history);
  const ways = make("ul", { class: "lk-ways" });
  const marks = make("p", { class: "lk-soft lk-small" }, "Equal marks are equal values. A mark tells nothing else, and is another after a restart.");
  const start = make("button", { type: "button", onclick: () => ask(start.dataset.do) });
  const line = make("code", { class: "lk-line" });
  const why = make("span", { class: "lk-soft" });
  const beside = make("section", { "aria-label": "The same Secret in three ways" },
    make("h4", {}, "Beside it: a variable, and one file by subPath"), ways, marks,
    make("p", { class: "lk-do" }, start, line, why));
  const live = make("div", { class: "lk-hidden", role: "status", "aria-live": "polite" });
  el.append(make("section", { class: "lk lk-volume", "aria-label": "A mounted Secret" },
    make("div", { class: "lk-head" }, title, pause, about), note, links, swaps, beside, live));

  function ask(name) {
    busy = true;
    model.send({ do: name });
    draw();
  }

  function draw() {
    const state = model.get("state");
    const isNew = Date.now() < freshUntil;
    set(title, state.title);
    set(about, [state.where, state.sync].filter(Boolean).join(" · "));
    set(pause, model.get("paused") ? "Go on" : "Pause");
    pause.setAttribute("aria-pressed", model.get("paused"));
    note.hidden = !state.note;
    set(note, state.note);
    links.replaceChildren(...(state.folder ? tree(state.folder, isNew) : []));
    swaps.hidden = !state.folder;
    history.replaceChildren(...(state.swaps.length ? state.swaps.map((swap, i) =>
      make("li", { class: isNew && i === 0 ? "lk-fresh" : "" },
        make("span", { class: "lk-time" }, clock(swap.at)),
        make("span", {}, code("..data"), ": ", folderName(swap.from || "(gone)", "lk-gone"), arrow(), folderName(swap.to),
          isNew && i === 0 ? make("span", { class: "lk-tag lk-good" }, "just now") : null)))
      : [make("li", { class: "lk-soft" }, "None yet. Write a new password to Vault, and keep an eye on ..data.")]));
    drawBeside(state);
  }

  function drawBeside({ pod, ways: told }) {
    const isThere = pod.state !== "absent";
    ways.hidden = marks.hidden = !told.length;
    ways.replaceChildren(...told.map(way));
    set(start, isThere ? "Take the pod away" : "Start a pod that has all three");
    start.dataset.do = isThere ? "remove" : "start";
    start.disabled = busy || (!isThere && pod.why !== "");
    set(line, isThere ? pod.remove : pod.start);
    set(why, isThere ? (told.length ? "" : `The pod is starting: ${pod.message}`) : pod.why);
  }

  // Short sentences, and only the last of a burst.
  function say(text) {
    clearTimeout(announcing);
    announcing = setTimeout(() => { live.textContent = text; }, CALM);
  }

  let shown = model.get("state").ways.length;
  let whose = model.get("state").where;
  let frozen = 0; // ways that do not have what the file holds
  function changed() {
    const { swaps: told, ways: beside, folder, where } = model.get("state");
    const first = told[0];
    busy = false;
    if (where !== whose) { // another pod's folder: its swaps are no news
      whose = where;
      newest = first?.at ?? 0;
      freshUntil = 0;
    }
    const isNew = first && first.at > newest;
    const behind = beside.filter((each) => !each.same).length;
    if (isNew) {
      freshUntil = Date.now() + FRESH;
      clearTimeout(fading);
      fading = setTimeout(draw, FRESH + 50);
    }
    if (isNew || (first && behind !== frozen && Date.now() < freshUntil)) {
      say(`The folder was swapped at ${clock(first.at).slice(0, -4)}: ${folder.files.join(", ")} changed.`
        + (behind ? ` ${behind} other ways still have the value of the start.` : ""));
    } else if (beside.length !== shown) {
      say(beside.length ? "The pod with all three ways runs." : "The pod with all three ways is gone.");
    }
    frozen = behind;
    newest = Math.max(newest, first?.at ?? 0);
    shown = beside.length;
    draw();
  }

  function answered(message) {
    busy = false;
    if (message.error) { say(message.error); note.hidden = false; set(note, message.error); }
    drawBeside(model.get("state"));
  }

  model.on("change:state", changed);
  model.on("change:paused", draw);
  model.on("msg:custom", answered);
  draw();
  return () => {
    clearTimeout(fading);
    clearTimeout(announcing);
    model.off("change:state", changed);
    model.off("change:paused", draw);
    model.off("msg:custom", answered);
  };
}

export default { render };
