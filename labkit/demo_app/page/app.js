// The page: shows what the application has loaded, and says so to the application once a
// version is really on the screen. Every URL is relative, so any proxy prefix works.
// Text reaches the document only through textContent.
"use strict";

const REVEAL_SECONDS = 10;
const CHIP_SECONDS = 20;
const LABELS = { db_con: "Connection string", db_user: "User", db_password: "Password" };

const $ = (id) => document.getElementById(id);
const client = Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, "0")).join("");

let shown = null; // the last answer of api/credentials
let skew = 0; // this browser's clock minus the application's, in seconds
let restarts = 0; // of the application, while this page was open
let changedKeys = new Map(); // key -> when it changed, for the "just changed" chips
let reveal = { until: 0, values: null, others: null };
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
  const sameProcess = before && before.started_at === next.started_at;
  if (before && !sameProcess) restarts += 1;
  if (sameProcess && next.version !== before.version && before.version > 0) {
    const keys = new Set();
    for (const event of history) {
      if (event.event === "reloaded" && event.version > before.version) event.changed.forEach((key) => keys.add(key));
    }
    keys.forEach((key) => changedKeys.set(key, Date.now()));
    announce(keys.size ? `Version ${next.version}: ${names([...keys])} changed.` : `Version ${next.version} was loaded.`);
  } else if (next.error && (!before || before.error !== next.error)) {
    announce(`The file cannot be used: ${next.error}.`);
  } else if (before && before.error && !next.error) {
    announce("The file can be used again.");
  }
  if (next.revealed && reveal.until > Date.now()) {
    reveal.values = next.values;
    reveal.others = next.other_sources;
  }
  shown = next;
  draw(history, sameProcess ? next.version !== before.version : false);
  acknowledge(next.version, next.started_at);
}

/** Tell the application that this version has been painted; a hidden page waits until it is seen. */
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
  drawSources(isNew);
  tick();
}

function drawBanners() {
  const { error, error_at, stale, version, watch, file } = shown;
  $("broken").hidden = !error;
  if (error) {
    const kept = stale ? ` Showing version ${version}, the last good one.` : " It is read as soon as it can be used.";
    $("broken").replaceChildren(
      element("strong", "", stale ? "The file cannot be used now." : "There are no values yet."),
      ` Since ${clock(error_at ?? shown.started_at)}: ${error}.${kept}`,
    );
  }
  const deaf = !watch.active;
  $("unwatched").hidden = !deaf || (error && !stale);
  if (deaf) {
    $("unwatched").replaceChildren(
      element("strong", "", "Nothing is being watched."),
      watch.mode === "off"
        ? " Watching is switched off: these values were read at the start, and a later change is not noticed."
        : " The file that was watched is gone. Its path leads to another file now, whose changes are not noticed.",
    );
  }
  $("trail").hidden = !file.target;
  if (file.target) $("trail").replaceChildren(mono("credentials"), " → ", mono("..data"), " → ", mono(file.target));
}

function drawValues(isNew) {
  const keys = Object.keys(shown.values);
  const focused = document.activeElement?.dataset?.reveal !== undefined;
  $("version").replaceChildren(...(shown.version ? ["Version ", element("b", "", String(shown.version))] : []));
  $("empty").hidden = keys.length > 0;
  $("empty").replaceChildren("Waiting for ", mono(shown.file.path));
  $("values").replaceChildren(...keys.map((key) => {
    const secret = shown.secret_keys.includes(key);
    const plain = secret && isRevealed() ? reveal.values[key] : undefined;
    const text = plain ?? shown.values[key];
    const dots = secret && plain === undefined;
    const value = element("span", dots ? "shown dots" : "shown", dots ? "••••••••" : text);
    if (dots) value.setAttribute("aria-label", "hidden");
    if (dots) value.setAttribute("role", "img");
    const { path, line } = shown.sources[key];
    const label = element("dt", "", ...(LABELS[key] ? [`${LABELS[key]} · `] : []), element("code", "", key));
    const changed = changedKeys.get(key);
    if (changed && Date.now() - changed < CHIP_SECONDS * 1000) label.append(element("span", "chip", "just changed"));
    const row = element("div", isNew && changed && Date.now() - changed < 1000 ? "value fresh" : "value", label, element("dd", "", value));
    if (secret) row.append(revealButton(key));
    row.append(element("dd", "from", "from ", mono(path), `, line ${line}`));
    return row;
  }));
  if (focused) document.querySelector("[data-reveal]")?.focus();
}

function drawTimeline(history) {
  const painted = new Map();
  for (const event of history) {
    if (event.event === "ack" && event.client === client) painted.set(event.version, event.at);
  }
  const rows = history.filter((event) => !["started", "ack"].includes(event.event)).slice(-6).reverse();
  $("timeline").replaceChildren(...rows.map((event) => {
    const after = painted.get(event.version) - event.at;
    const seen = event.event === "reloaded" && after >= 0 && after < 60 ? ` · on this page ${Math.round(after * 1000)} ms later` : "";
    const when = element("time", "when", `${clock(event.at)}${seen}`);
    when.dateTime = new Date(event.at * 1000).toISOString();
    return element("li", event.event === "load-failed" ? "failed" : "", element("span", "what", story(event)), when);
  }));
  if (!rows.length) $("timeline").replaceChildren(element("li", "", element("span", "what", "Started; nothing was read yet")));
}

function story(event) {
  if (event.event === "loaded") return `Version ${event.version}: first read`;
  if (event.event === "recovered") return `Can be used again, still version ${event.version}`;
  if (event.event === "load-failed") return event.version ? `Not usable; kept version ${event.version}: ${event.error}` : `Not usable: ${event.error}`;
  return `Version ${event.version}: ${event.changed.length ? `${names(event.changed)} changed` : "comments changed"}`;
}

function drawSources() {
  const others = reveal.others && isRevealed() ? reveal.others : shown.other_sources;
  $("compare").hidden = !others.length;
  if (!others.length) return;
  const password = isRevealed() ? reveal.values.db_password : shown.values.db_password;
  const file = { kind: "file", where: shown.file.path, value: password ?? null, read_at: shown.loaded_at, fingerprint: shown.file.fingerprint, error: password === undefined ? "nothing was read yet" : null, changed_since_start: shown.version > 1 };
  const titles = { file: "File in a folder", env: "Environment variable", subpath: "Single file (subPath)" };
  $("sources").replaceChildren(...[file, ...others].map((source) => {
    const card = element("li", "", element("h3", "", titles[source.kind]), element("span", "where", mono(source.where)));
    if (source.value !== null) {
      const secret = element("p", "secret", element("span", "mono", isRevealed() ? source.value : "••••••••"));
      if (source.fingerprint) secret.append(element("span", "mark-text", "mark ", mono(source.fingerprint)));
      card.append(secret);
    }
    const verdict = element("p", source.matches_file === false ? "verdict differs" : "verdict");
    if (source.error) verdict.textContent = source.error;
    else if (source.kind === "file") verdict.textContent = `${source.changed_since_start ? "Changed" : "Unchanged"} since the start`;
    else verdict.textContent = `${source.matches_file ? "Same as the file" : "Differs from the file"}; ${source.changed_since_start ? "changed" : "unchanged"} since the start`;
    card.append(verdict);
    if (source.read_at) card.append(element("span", "where", `read at ${clock(source.read_at)}`));
    return card;
  }));
}

function drawFacts() {
  const reloads = Math.max(0, shown.version - 1);
  const since = restarts
    ? `No: restarted ${plural(restarts, "time")} while this page was open`
    : `Yes, through ${plural(reloads, "reload")}`;
  const watching = { folder: "The folder", file: "Only the first file", off: "Nothing" }[shown.watch.mode];
  const facts = [
    ["Process", `pid ${shown.pid}`],
    ["Started at", `${clock(shown.started_at)}, up ${span(now() - shown.started_at)}`],
    ["Watches", shown.watch.active || shown.watch.mode === "off" ? watching : "Nothing any more"],
    ["Same process since then", since],
  ];
  const rows = facts.map(([name, value]) => element("div", "", element("dt", "", name), element("dd", "", value)));
  $("facts").replaceChildren(...rows);
}

/** What changes with time alone. */
function tick() {
  if (!shown) return;
  if (shown.loaded_at) {
    $("updated").textContent = `${span(now() - shown.loaded_at)} ago, at ${clock(shown.loaded_at)}`;
    $("updated").dateTime = new Date(shown.loaded_at * 1000).toISOString();
  }
  drawFacts();
  for (const [key, at] of changedKeys) {
    if (Date.now() - at >= CHIP_SECONDS * 1000) {
      changedKeys.delete(key);
      drawValues(false);
    }
  }
  if (reveal.values && !isRevealed()) hide();
  document.querySelectorAll("[data-reveal]").forEach((button) => {
    button.textContent = isRevealed() ? `Hide (${Math.ceil((reveal.until - Date.now()) / 1000)})` : "Reveal";
  });
}

// ---- Reveal -----------------------------------------------------------------------------

const isRevealed = () => reveal.values !== null && reveal.until > Date.now();

function revealButton(key) {
  const button = element("button", "", isRevealed() ? "Hide" : "Reveal");
  button.type = "button";
  button.dataset.reveal = key;
  button.setAttribute("aria-label", `${isRevealed() ? "Hide" : "Reveal"} ${LABELS[key]?.toLowerCase() ?? key}`);
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
  shown.values = Object.fromEntries(Object.entries(shown.values).map(([key, value]) => [key, shown.secret_keys.includes(key) ? "" : value]));
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
  for (const name of ["reloaded", "recovered", "ack"]) stream.addEventListener(name, news);
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

document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh().then(connected, lost); });
refresh().then(connected, lost);
connect();
