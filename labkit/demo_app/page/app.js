// The page: shows what the application has loaded, and says so to the application once a
// version is really on the screen. Every URL is relative, so any proxy prefix works.
// Text reaches the document only through textContent.
"use strict";

const REVEAL_SECONDS = 10;
const CHIP_SECONDS = 20;
const SOURCES = { file: "File in a folder", env: "Environment variable", subpath: "Single file (subPath)" };
const LABELS = { db_con: "Connection string", db_user: "User", db_password: "Password" };

const $ = (id) => document.getElementById(id);
const client = `page-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;

let shown = null; // the last answer of api/credentials, with the secrets taken out
let skew = 0; // this browser's clock minus the application's, in seconds
let restarts = 0; // of the application, while this page was open
let changedKeys = new Map(); // key -> when it changed, for the "just changed" chips
let reveal = { until: 0, values: null, others: null }; // the secrets, while they are shown
let acked = 0;

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const mono = (text) => element("code", "mono", text);
const now = () => Date.now() / 1000 - skew; // the application's clock
const clock = (at) => new Date((at + skew) * 1000).toLocaleTimeString([], { hour12: false });
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 1) return "a moment";
  if (whole < 60) return plural(whole, "second");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${plural(Math.floor(whole / 86400), "day")} ${Math.floor((whole % 86400) / 3600)} h`;
}

function names(keys) {
  return keys.length < 2 ? keys.join("") : `${keys.slice(0, -1).join(", ")} and ${keys.at(-1)}`;
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

// ---- Fetch, draw, acknowledge -----------------------------------------------------------

let fetching = null;
let fetchAgain = false;

/** Bring the page up to date; calls that come while one is under way share the next. */
function refresh() {
  if (fetching) {
    fetchAgain = true;
    return fetching;
  }
  fetching = (async () => {
    try {
      do {
        fetchAgain = false;
        const revealing = reveal.until > Date.now();
        const [next, history] = await Promise.all([
          get(`api/credentials${revealing ? "?reveal=1" : ""}`),
          get("api/history"),
        ]);
        take(next, history);
      } while (fetchAgain);
    } finally {
      fetching = null;
    }
  })();
  return fetching;
}

function take(next, history) {
  const before = shown;
  skew = Date.now() / 1000 - next.now;
  const restarted = before !== null && before.started_at !== next.started_at;
  if (restarted) {
    restarts += 1;
    changedKeys.clear();
    announce("The application was restarted.");
  }
  const isNew = before !== null && !restarted && next.version !== before.version;
  if (isNew) {
    const since = history.filter((event) => event.event === "reloaded" && event.version > before.version);
    const keys = [...new Set(since.flatMap((event) => event.changed))];
    keys.forEach((key) => changedKeys.set(key, Date.now()));
    announce(`Version ${next.version} was loaded${keys.length ? `: ${names(keys)} changed` : ""}.`);
  } else if (next.error && before?.error !== next.error) {
    announce(`The file cannot be used: ${next.error}.`);
  } else if (before?.error && !next.error) {
    announce("The file can be used again.");
  }
  if (next.revealed && reveal.until > Date.now()) {
    reveal.values = next.values;
    reveal.others = next.other_sources;
  }
  shown = withoutSecrets(next);
  draw(history, isNew);
  acknowledge(next.version, next.started_at);
}

function withoutSecrets(next) {
  if (!next.revealed) return next;
  const hidden = ([key, value]) => [key, next.secret_keys.includes(key) ? "" : value];
  return {
    ...next,
    values: Object.fromEntries(Object.entries(next.values).map(hidden)),
    other_sources: next.other_sources.map((source) => ({ ...source, value: source.value && "" })),
  };
}

/** Tell the application that this version is painted; a hidden page does so once it is seen. */
function acknowledge(version, process) {
  if (!version || acked === `${process} ${version}`) return;
  acked = `${process} ${version}`;
  // The callback runs before the frame is painted, what it queues runs after.
  requestAnimationFrame(() => setTimeout(async () => {
    const rendered_at = (performance.timeOrigin + performance.now()) / 1000;
    try {
      const answer = await fetch("api/ack", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ version, client, rendered_at }),
      });
      if (!answer.ok) throw new Error(`api/ack answered ${answer.status}`);
      drawTimeline(await get("api/history"));
    } catch {
      acked = 0; // the next refresh says it again
    }
  }));
}

function announce(text) {
  $("announce").textContent = text;
}

// ---- Draw -------------------------------------------------------------------------------

function draw(history, isNew) {
  drawBanners();
  drawValues(isNew);
  drawTimeline(history);
  drawSources();
  tick();
}

function drawBanners() {
  const { error, error_at, stale, version, watch, file } = shown;
  $("broken").hidden = !error;
  if (error) {
    const kept = stale ? ` Showing version ${version}, the last good one.` : "";
    $("broken").replaceChildren(
      element("strong", "", stale ? "The file cannot be used now." : "There are no values yet."),
      ` Since ${clock(error_at ?? shown.started_at)}: ${error}.${kept}`,
    );
  }
  const deaf = !watch.active;
  $("unwatched").hidden = !deaf;
  if (deaf) {
    $("unwatched").replaceChildren(
      element("strong", "", "Nothing is being watched."),
      watch.mode === "off"
        ? " The file was read once, at the start; a later change is not noticed."
        : " The file that was watched is gone; its path leads to another one, whose changes are not noticed.",
    );
  }
  $("trail").hidden = !file.target;
  const links = ["credentials", " → ", "..data", " → ", file.target ?? ""];
  $("trail").replaceChildren(...links.map((text) => (text === " → " ? text : mono(text))));
}

function drawValues(isNew) {
  const keys = Object.keys(shown.values);
  const focused = document.activeElement?.dataset.reveal;
  $("version").replaceChildren(...(shown.version ? ["Version ", element("b", "", String(shown.version))] : []));
  $("empty").hidden = keys.length > 0;
  $("empty").replaceChildren("Nothing loaded yet from ", mono(shown.file.path));
  $("values").replaceChildren(...keys.map((key) => valueRow(key, isNew)));
  if (focused) document.querySelector(`[data-reveal="${CSS.escape(focused)}"]`)?.focus();
}

function valueRow(key, isNew) {
  const secret = shown.secret_keys.includes(key);
  const changed = changedKeys.has(key);
  const label = element("dt", "", LABELS[key] ? `${LABELS[key]} · ` : "", element("code", "", key));
  if (changed) label.append(" ", element("span", "chip", "just changed"));
  const value = secret && !isRevealed() ? dots("shown") : element("dd", "shown");
  if (!value.hasChildNodes()) value.append(...breakable(isRevealed() ? reveal.values[key] : shown.values[key]));
  const { path, line } = shown.sources[key];
  const from = element("dd", "from", "from ", mono(path), `, line ${line}`);
  const button = secret ? revealButton(key) : null;
  return element("div", isNew && changed ? "value fresh" : "value", label, value, button, from);
}

function dots(className, tag = "dd") {
  const bullets = element("span", "dots", "••••••••");
  bullets.setAttribute("aria-hidden", "true");
  return element(tag, className, bullets, element("span", "unseen", "hidden"));
}

/** The text with places to break a line after the punctuation of an address. */
function breakable(text) {
  return text.split(/(?<=[/:@?&;,])/).flatMap((part) => [part, document.createElement("wbr")]);
}

function drawTimeline(history) {
  const painted = new Map();
  for (const event of history) {
    if (event.event === "ack" && event.client === client) painted.set(event.version, event.at);
  }
  const rows = history.filter((event) => !["started", "ack"].includes(event.event)).slice(-6).reverse();
  $("timeline").replaceChildren(...rows.map((event) => {
    const after = painted.get(event.version) - event.at;
    const wasOpen = event.at > performance.timeOrigin / 1000 - skew; // else it tells when we came
    const prompt = event.event === "reloaded" && wasOpen && after >= 0 && after < 60;
    const seen = prompt ? ` · on this page ${Math.round(after * 1000)} ms later` : "";
    const when = element("time", "when", `${clock(event.at)}${seen}`);
    when.dateTime = new Date(event.at * 1000).toISOString();
    const mark = event.event === "load-failed" ? "failed" : "";
    return element("li", mark, element("span", "what", story(event)), when);
  }));
}

function story(event) {
  if (event.event === "loaded") return `Version ${event.version}: first read`;
  if (event.event === "recovered") return `Can be used again, still version ${event.version}`;
  if (event.event === "load-failed") {
    return `Not usable: ${event.error}${event.version ? `; kept version ${event.version}` : ""}`;
  }
  return `Version ${event.version}: ${names(event.changed) || "only comments"} changed`;
}

function drawSources() {
  const others = isRevealed() ? reveal.others : shown.other_sources;
  $("compare").hidden = !others.length;
  const file = {
    kind: "file",
    where: shown.file.path,
    value: (isRevealed() ? reveal : shown).values.db_password ?? null,
    read_at: shown.loaded_at,
    fingerprint: shown.file.fingerprint,
    error: shown.version ? null : "Nothing loaded yet",
    changed_since_start: shown.version > 1,
  };
  $("sources").replaceChildren(...[file, ...others].map(sourceCard));
}

function sourceCard(source) {
  const title = element("h3", "", SOURCES[source.kind]);
  const card = element("li", "", title, element("p", "where", mono(source.where)));
  if (source.value !== null) {
    const secret = isRevealed() ? element("p", "mono", source.value) : dots("mono", "p");
    card.append(element("div", "secret", secret, element("p", "where", "mark ", mono(source.fingerprint))));
  }
  const differs = source.matches_file === false;
  const compared = differs ? "Differs from the file" : "Same as the file";
  const verdict = source.error ?? (source.kind === "file" ? "In use" : compared);
  card.append(element("p", differs || source.error ? "verdict differs" : "verdict", verdict));
  if (!source.error) {
    const changed = source.changed_since_start ? "Changed" : "Unchanged";
    card.append(element("p", "where", `${changed} since the start, read at ${clock(source.read_at)}`));
  }
  return card;
}

function drawFacts() {
  const watching = { folder: "The folder", file: "Only the first file", off: "Nothing" }[shown.watch.mode];
  const lost = !shown.watch.active && shown.watch.mode === "file";
  const facts = {
    "Same process since": `${clock(shown.started_at)} (pid ${shown.pid})`,
    "Up for": span(now() - shown.started_at),
    "Reloads, no restart": String(Math.max(0, shown.version - 1)),
    "Restarts seen by this page": restarts ? String(restarts) : "None",
    "Watches": lost ? "Nothing any more" : watching,
  };
  if (!$("facts").hasChildNodes()) {
    const fact = (name) => element("div", "", element("dt", "", name), element("dd", ""));
    $("facts").append(...Object.keys(facts).map(fact));
  }
  Object.values(facts).forEach((text, index) => setText($("facts").children[index].lastChild, text));
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** What changes with time alone. */
function tick() {
  if (!shown) return;
  const at = shown.loaded_at;
  setText($("updated"), at ? `${span(now() - at)} ago, at ${clock(at)}` : "not yet");
  drawFacts();
  const expired = [...changedKeys].filter(([, since]) => Date.now() - since >= CHIP_SECONDS * 1000);
  expired.forEach(([key]) => changedKeys.delete(key));
  if (reveal.values && !isRevealed()) hide();
  else if (expired.length) drawValues(false);
  for (const button of document.querySelectorAll("[data-reveal]")) {
    setText(button, isRevealed() ? `Hide (${Math.ceil((reveal.until - Date.now()) / 1000)})` : "Reveal");
  }
}

// ---- Reveal -----------------------------------------------------------------------------

const isRevealed = () => reveal.values !== null && reveal.until > Date.now();

function revealButton(key) {
  const button = element("button", "", isRevealed() ? "Hide" : "Reveal");
  button.type = "button";
  button.dataset.reveal = key;
  button.setAttribute("aria-label", `${isRevealed() ? "Hide" : "Reveal"} ${LABELS[key] ?? key}`);
  button.addEventListener("click", () => (isRevealed() ? hide() : show()));
  return button;
}

async function show() {
  reveal.until = Date.now() + REVEAL_SECONDS * 1000;
  try {
    await refresh();
    announce(`Secrets are shown for ${REVEAL_SECONDS} seconds.`);
  } catch {
    hide();
  }
}

function hide() {
  reveal = { until: 0, values: null, others: null };
  drawValues(false);
  drawSources();
}

// ---- Keep in touch ----------------------------------------------------------------------

let stream = null;
let streaming = false; // events really arrive
let lostSince = 0;
let retry = 0;

function link(state, text) {
  if ($("link").textContent === text) return;
  $("link").dataset.state = state;
  $("link").textContent = text;
}

function connected() {
  if (lostSince && !$("lost").hidden) announce("The application answers again.");
  lostSince = 0;
  $("lost").hidden = true;
  link("live", streaming ? "Live" : "Live, asking every 2 s");
}

function lost() {
  streaming = false;
  lostSince ||= Date.now();
}

function connect() {
  clearTimeout(retry);
  stream?.close();
  stream = new EventSource("api/events");
  const news = () => refresh().then(connected, lost);
  stream.addEventListener("hello", () => { streaming = true; news(); });
  for (const name of ["reloaded", "recovered"]) stream.addEventListener(name, news);
  stream.addEventListener("error", (event) => {
    if (event.data !== undefined) { news(); return; } // the application's own event of that name
    lost();
    if (stream.readyState === EventSource.CLOSED) retry = setTimeout(connect, 1500);
  });
}

// Every second: the ages; every other second without a stream: ask, since a proxy may hold
// the stream back, and to find out whether anybody is there.
let beat = 0;
setInterval(() => {
  beat += 1;
  if (!streaming && beat % 2 === 0 && !document.hidden) refresh().then(connected, lost);
  if (lostSince && Date.now() - lostSince > 1500) {
    link("lost", "Not connected");
    if ($("lost").hidden) {
      $("lost").replaceChildren(
        element("strong", "", "The application does not answer."),
        shown ? ` These are the values it had at ${clock(now())}. Trying again…` : " Trying again…",
      );
      $("lost").hidden = false;
      announce("The connection to the application is lost. Trying again.");
    }
  }
  tick();
}, 1000);

// A page that nobody looks at gives its connection back: a browser has six for one server,
// and this page may stand in several tabs and frames of it.
let leaving = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden) {
    leaving = setTimeout(() => {
      clearTimeout(retry);
      stream?.close();
      stream = null;
      streaming = false;
    }, 5000);
    return;
  }
  if (!stream) connect();
  refresh().then(connected, lost);
});
refresh().then(connected, lost);
connect();
