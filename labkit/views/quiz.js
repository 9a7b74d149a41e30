// A quiz: one group of answers for each question, and why an answer is right or wrong.

let quizzes = 0; // radio buttons of different quizzes must not share a name

// What stands in `backticks` is code.
function words(text) {
  return text.split(/`([^`]+)`/).map((part, i) => (i % 2 ? make("code", {}, part) : part));
}

function render({ model, el }) {
  const id = `lk-quiz-${(quizzes += 1)}`;
  const groups = get().questions.map(group);
  const score = make("p", { class: "lk-soft" });
  const live = make("p", { class: "lk-hidden", role: "status", "aria-live": "polite" });
  let timer = 0;

  function get() {
    return model.get("state");
  }

  function group({ text, choices }, index) {
    const question = index + 1;
    const lines = choices.map((choice, place) => {
      const why = make("p", { class: "lk-why", id: `${id}-${question}-${place}` });
      why.hidden = true;
      const input = make("input", { type: "radio", name: `${id}-${question}`, value: place });
      return { input, why, nodes: [make("label", {}, input, make("span", {}, ...words(choice))), why] };
    });
    const hint = make("span", { class: "lk-soft" });
    const check = make("button", {
      type: "button",
      onclick: () => {
        const choice = lines.findIndex(({ input }) => input.checked);
        if (choice < 0) {
          hint.textContent = " Choose an answer first.";
          return say(`Question ${question}: choose an answer first.`);
        }
        hint.textContent = "";
        model.send({ do: "answer", question, choice });
      },
    }, "Check answer", make("span", { class: "lk-hidden" }, ` to question ${question}`));
      const node = make("fieldset", {},
      make("legend", {}, `${question}. `, ...words(text)),
      ...lines.flatMap(({ nodes }) => nodes), check, hint);
    return { node, lines };
  }

  function draw() {
    get().questions.forEach(({ tried }, index) => {
      for (const { choice, right, feedback } of tried) {
        const { input, why } = groups[index].lines[choice];
        if (!why.hidden) continue;
        why.replaceChildren(
          make("b", { class: right ? "lk-good" : "lk-bad" }, right ? "✓ Yes." : "✗ No."),
          ...words(feedback));
        why.hidden = false;
        input.setAttribute("aria-describedby", why.id);
      }
    });
    score.textContent = get().score;
    score.hidden = !get().score;
  }

  // Short sentences, and only the last of a burst.
  function say(text) {
    clearTimeout(timer);
    live.textContent = "";
    timer = setTimeout(() => { live.textContent = text.replaceAll("`", ""); }, 250);
  }

  function heard(answer) {
    if (answer.did !== "answer") return;
    if (answer.error) {
      score.textContent = answer.error;
      score.hidden = false;
      return say(answer.error);
    }
    const verdict = answer.right ? "Yes." : "No.";
    say(`Question ${answer.question}: ${verdict} ${answer.feedback} ${get().score}`);
  }

  draw();
  model.on("change:state", draw);
  model.on("msg:custom", heard);
  el.append(make("section", { class: "lk lk-quiz", "aria-label": "Quiz" },
    ...groups.map(({ node }) => node), score, live));
  return () => {
    clearTimeout(timer);
    model.off("change:state", draw);
    model.off("msg:custom", heard);
  };
}

export default { render };
