// The course: its lessons with their checkpoints, and where one is.

// What stands in `backticks` is code.
function words(text) {
  return text.split(/`([^`]+)`/).map((part, i) => (i % 2 ? make("code", {}, part) : part));
}

// The folder of the notebook that a node is in: its tab knows it, the address bar may.
function folder(node) {
  const id = node.closest(".jp-NotebookPanel")?.id;
  const title = id ? document.querySelector(`[data-id="${id}"]`)?.title ?? "" : "";
  const [, path] = title.match(/[:：] *([^\n]*\/[^\n]*\.ipynb)$/m) ?? [];
  const here = path ?? decodeURIComponent(location.pathname.split("/tree/")[1] ?? "");
  return here.slice(0, here.lastIndexOf("/") + 1);
}

// A link to a notebook beside this one. JupyterLab opens it as a tab when it finds a command
// on what was clicked.
function link(file, label) {
  return make("a", {
    href: file,
    onclick: ({ currentTarget }) => {
      if (!document.querySelector(".jp-LabShell")) return;
      const path = folder(currentTarget) + file;
      currentTarget.dataset.commandlinkerCommand = "docmanager:open";
      currentTarget.dataset.commandlinkerArgs = JSON.stringify({ path });
    },
  }, label);
}

function step({ title, state, done }) {
  return make("li", {},
    make("span", { class: done ? "lk-good" : "lk-soft", "aria-hidden": "true" }, done ? "✓" : "○"),
    make("span", {}, ...words(title), ": ", make("span", { class: done ? "lk-good" : "lk-soft" }, state)));
}

function lesson(shown) {
  const sum = make("summary", { class: "lk-soft" });
  const steps = make("ul");
  const here = make("span", { class: "lk-here" }, "you are here");
  const time = shown.minutes ? `about ${shown.minutes} minutes` : "";
  const details = make("details", {}, sum, steps);
  const node = make("li", {},
    make("div", { class: "lk-line" }, link(shown.file, shown.label),
      make("span", { class: "lk-soft" }, time), here),
    details);
  details.open = shown.here;
  const draw = (now) => {
    node.className = now.done ? "lk-done" : "";
    if (now.here) node.setAttribute("aria-current", "step");
    else node.removeAttribute("aria-current");
    here.hidden = !now.here;
    const quiz = now.quiz.done ? ", quiz answered" : "";
    sum.textContent = `${now.done ? "✓ " : ""}${now.sum}${quiz}`;
    steps.replaceChildren(...[...now.steps, now.quiz].map(step));
  };
  return { node, draw };
}

function render({ model, el }) {
  const get = () => model.get("state");
  const lessons = get().lessons.map(lesson);
  const title = make("h3");
  const bar = make("progress", { "aria-label": "Checkpoints passed" });
  const left = make("p", { class: "lk-soft" });
  const live = make("p", { class: "lk-hidden", role: "status", "aria-live": "polite" });
  let timer = 0;
  let asked = false;
  const look = make("button", {
    type: "button",
    onclick: () => { asked = true; model.send({ do: "look" }); },
  }, "Look again");

  function draw() {
    const s = get();
    title.textContent = `Your course: ${s.passed} of ${s.total} checkpoints passed`;
    bar.max = s.total;
    bar.value = s.passed;
    left.textContent = s.left;
    s.lessons.forEach((each, i) => lessons[i].draw(each));
  }

  // Short sentences, and only the last of a burst.
  function say() {
    clearTimeout(timer);
    live.textContent = "";
    timer = setTimeout(() => { live.textContent = `${title.textContent}. ${get().left}`; }, 300);
  }

  function update() {
    draw();
    say();
  }

  function heard(answer) {
    if (answer.error) left.textContent = answer.error;
    if (asked) say(); // also when nothing is new
    asked = false;
  }

  draw();
  model.on("change:state", update);
  model.on("msg:custom", heard);
  el.append(make("nav", { class: "lk lk-progress", "aria-label": "Course" },
    make("header", {}, title, bar, look), left,
    make("ol", {}, ...lessons.map(({ node }) => node)), live));
  return () => {
    clearTimeout(timer);
    model.off("change:state", update);
    model.off("msg:custom", heard);
  };
}

export default { render };
