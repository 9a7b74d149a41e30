// One checkpoint: what was expected and observed, what is next, and what helps.

const BUTTONS = [ // what it asks for, its label, whether it stays once all is met
  ["check", "Check again", true],
  ["hint", "Hint", false],
  ["solution", "Show a solution", false],
  ["undo", "Take it back", true],
  ["solve", "Solve it and go on", false],
];

// What stands in `backticks` is code.
function words(text) {
  return text.split(/`([^`]+)`/).map((part, i) => (i % 2 ? make("code", {}, part) : part));
}

function fill(node, ...children) {
  node.replaceChildren(...children);
  node.hidden = !children.length;
}

function finding({ met, settling, expected, observed }) {
  if (met) {
    return make("li", {}, make("span", { class: "lk-good", "aria-hidden": "true" }, "✓"),
      make("div", {}, make("b", {}, "As expected: "), ...words(observed)));
  }
  const mark = settling ? ["lk-wait", "…"] : ["lk-bad", "✗"];
  return make("li", {}, make("span", { class: mark[0], "aria-hidden": "true" }, mark[1]),
    make("div", {}, make("b", {}, settling ? "Not yet, still settling" : "Not yet"),
      make("dl", {}, make("dt", {}, "Expected"), make("dd", {}, ...words(expected)),
        make("dt", {}, "Observed"), make("dd", {}, ...words(observed)))));
}

function script(label, text, copied) {
  return [
    make("h4", {}, label),
    make("pre", { tabindex: "0", role: "region", "aria-label": label }, text),
    make("button", { type: "button", onclick: () => copy(text).then(copied) }, "Copy"),
  ];
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return "Copied.";
  } catch { // no permission, or a page without https
    return "The browser does not let this page copy: select the text instead.";
  }
}

function render({ model, el }) {
  const get = () => model.get("state");
  let timer = 0;
  let open = Boolean(get().solution); // whether the solution is shown
  let agreed = open; // it is asked for once
  const drawn = {};

  const title = make("h3", { tabindex: "-1" }, get().title);
  const badge = make("span", { class: "lk-badge" });
  const left = make("span", { class: "lk-soft lk-left" });
  const findings = make("ul", { "aria-label": "What was expected" });
  const next = make("p");
  const hints = make("div");
  const ask = make("span", { class: "lk-ask", role: "group", "aria-label": "Show a solution?" },
    "Show it?",
    make("button", { type: "button", onclick: () => answer(true) }, "Yes, show it"),
    make("button", { type: "button", onclick: () => answer(false) }, "No, let me try"));
  const solution = make("div");
  const ran = make("details");
  const status = make("p", { class: "lk-status" });
  const live = make("p", { class: "lk-hidden", role: "status", "aria-live": "polite" });
  const buttons = Object.fromEntries(BUTTONS.map(([name, label]) =>
    [name, make("button", { type: "button", onclick: () => press(name) }, label)]));
  ask.hidden = true;
  const row = make("div", { class: "lk-buttons" },
    ...Object.values(buttons), ask);
  const root = make("section", { class: "lk lk-checkpoint", "aria-label": `Checkpoint: ${get().title}` },
    make("header", {}, title, badge, left), findings, next, hints, row, solution, ran, status, live);

  function press(name) {
    if (get().busy) return;
    if (name !== "solution") return void model.send({ do: name });
    if (open) return show(false);
    if (agreed) return answer(true);
    ask.hidden = false;
    ask.querySelector("button").focus();
  }

  function answer(yes) {
    if (yes && get().busy) return;
    ask.hidden = true;
    buttons.solution.focus();
    if (!yes) return;
    agreed = true;
    show(true);
    if (!get().solution) model.send({ do: "solution" });
  }

  function show(wanted) {
    open = wanted;
    draw();
  }

  // Short sentences, and only the last of a burst; the same one twice is heard twice.
  function say(text) {
    clearTimeout(timer);
    live.textContent = "";
    timer = setTimeout(() => { live.textContent = text.replaceAll("`", ""); }, 300);
  }

  function when(seconds) {
    return seconds ? `${new Date(seconds * 1000).toLocaleTimeString()}: ` : "";
  }

  // Only what differs is drawn again, so that a selection and the focus stay.
  function changed(name, value) {
    const text = JSON.stringify(value);
    if (drawn[name] === text) return false;
    drawn[name] = text;
    return true;
  }

  function draw() {
    const s = get();
    const at = document.activeElement;
    const lost = s.passed && [buttons.hint, buttons.solution, buttons.solve, ask, solution].some((each) => each.contains(at));
    root.classList.toggle("lk-passed", s.passed);
    root.setAttribute("aria-busy", String(Boolean(s.busy)));
    badge.className = `lk-badge ${s.passed ? "lk-good" : "lk-wait"}`;
    badge.textContent = s.passed ? "✓ passed" : "not yet";
    left.textContent = s.left;
    if (changed("findings", s.findings)) fill(findings, ...s.findings.map(finding));
    if (changed("next", s.next)) fill(next, ...(s.next ? [make("b", {}, "Next: "), ...words(s.next)] : []));
    const rungs = s.passed ? [] : s.hints;
    if (changed("hints", rungs)) {
      const last = rungs.at(-1);
      fill(hints, ...(last ? [make("h4", {}, `Hints: ${last.step} of ${last.of}`),
        make("ol", {}, ...rungs.map((each) => make("li", { value: each.step }, ...words(each.text))))] : []));
    }
    const shown = open && !s.passed && s.solution;
    if (changed("solution", shown)) {
      fill(solution, ...(shown ? script("One way to do it", shown, tell) : []));
    }
    if (changed("ran", s.ran)) {
      fill(ran, ...(s.ran ? [make("summary", {}, "The commands that were run"), make("pre", { tabindex: "0" }, s.ran)] : []));
    }
    for (const [name, , stays] of BUTTONS) {
      buttons[name].hidden = s.passed && !stays;
      buttons[name].setAttribute("aria-disabled", String(Boolean(s.busy)));
    }
    if (s.passed) ask.hidden = true;
    buttons.solution.setAttribute("aria-expanded", String(Boolean(shown)));
    buttons.solution.textContent = shown ? "Hide the solution" : "Show a solution";
    if (lost) title.focus({ preventScroll: true }); // what had the focus is gone
    const text = s.busy ? s.doing : s.problem || s.note;
    const first = !("status" in drawn); // what stands there already is not news
    if (changed("status", [text, s.busy, s.at])) {
      status.className = `lk-status ${s.problem && !s.busy ? "lk-bad" : "lk-soft"}`;
      status.replaceChildren(...(text ? words((s.busy ? "" : when(s.at)) + text) : []));
      if (text && !first) say(s.problem && !s.busy ? `It did not work. ${text}` : `${s.title}: ${s.busy ? text : s.said}`);
    }
  }

  function tell(text) {
    status.textContent = text;
    say(text);
  }

  function update() {
    const s = get();
    if (!s.solution) open = open && s.busy === "solution"; // taken back
    draw();
  }

  draw();
  model.on("change:state", update);
  el.append(root);
  return () => {
    clearTimeout(timer);
    model.off("change:state", update);
  };
}

export default { render };
