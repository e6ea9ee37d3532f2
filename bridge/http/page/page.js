// Draws /status.json, which the page reads every 2 s. docs/reference/status.schema.json describes the document.

const PERIOD = 2000; // ms between two requests
const TIMEOUT = 5000; // ms until a request counts as unanswered
const STALE = 10; // s: the bridge makes a snapshot every second
const OLD = 30; // s: an older answer of HAProxy or EMQ tells nothing about the present

// -- words --------------------------------------------------------------------------------------------

const count = (n) => Math.round(n).toLocaleString("en-US");
const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

function span(seconds) {
  if (seconds == null) return "never";
  if (seconds < 0.0005) return "0 s";
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1).replace(/\.0$/, "")} s`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let left = Math.round(seconds);
  const at = units.findIndex(([, size]) => left >= size);
  const parts = [];
  for (const [name, size] of units.slice(at, at + 2)) {
    const whole = Math.floor(left / size);
    left -= whole * size;
    if (whole) parts.push(`${whole} ${name}`);
  }
  return parts.join(" ");
}

function bytes(n) {
  for (const [name, size] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["KB", 1e3]])
    if (n >= size) return `${+(n / size).toPrecision(3)} ${name}`;
  return `${n} bytes`;
}

const times = (n) => (n === 1 ? "once" : `${count(n)} times`);
const rate = (n) => `${n >= 100 ? count(n) : +n.toFixed(1)}/s`;
const total = (reasons) => Object.values(reasons).reduce((sum, n) => sum + n, 0);

// -- elements -----------------------------------------------------------------------------------------

function element(space, tag, attributes, children) {
  const made = space ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) if (value != null) made.setAttribute(name, value);
  for (const child of children.flat(3)) if (child != null && child !== false) made.append(child);
  return made;
}
const h = (tag, attributes, ...children) => element(false, tag, attributes, children);
const s = (tag, attributes, ...children) => element(true, tag, attributes, children);

// Changes `old` into `made`, but keeps all nodes that stay: so focus, selection and screen readers stay too.
function morph(old, made) {
  for (const { name } of [...old.attributes]) if (!made.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const wanted = [...made.childNodes];
  wanted.forEach((node, at) => {
    const there = old.childNodes[at];
    if (!there) old.append(node);
    else if (there.nodeType !== node.nodeType || there.nodeName !== node.nodeName) there.replaceWith(node);
    else if (node.nodeType === Node.TEXT_NODE) { if (there.data !== node.data) there.data = node.data; }
    else morph(there, node);
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

function fill(id, attributes, ...children) {
  const old = document.getElementById(id);
  const made = old.cloneNode(false);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  for (const child of children.flat(3)) if (child != null && child !== false) made.append(child);
  morph(old, made);
}

const level = (kind, text) => h("span", { class: `level ${kind}` }, text);
const runbook = (anchor) => h("a", { href: `runbook#${anchor.replace(/\./g, "")}` }, `runbook: ${anchor}`);

const prose = (text) => text.split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part)); // commands stand in backticks

// -- from top to bottom -------------------------------------------------------------------------------

function verdict(kind, sentence, findings) {
  const worst = findings.find((found) => sentence.startsWith(found.what));
  const says = worst ? worst.what : sentence; // after it comes what to do
  fill("verdict", { class: kind },
    h("p", { class: "sentence" }, prose(says), " ", h("span", { class: "then" }, prose(sentence.slice(says.length).trim()))),
    findings.length > 0 && h("ul", { role: "list" }, findings.map((found) => {
      const kind = level(found.level, found.level === "broken" ? "Broken: " : "Warning: ");
      const isSaid = sentence.includes(found.what); // the sentence has the worst finding's words
      return h("li", {},
        !isSaid && [h("p", { class: "what" }, kind, prose(found.what)), h("p", { class: "do" }, prose(found.remedy))],
        h("p", { class: "muted" }, isSaid && kind, found.host && `Where: ${found.host}. `,
          found.runbook && ["More: ", runbook(found.runbook)]));
    })));
}

function host(kind, name, state, ...lines) {
  return h("div", { class: `host ${kind}` }, h("h3", {}, name), h("p", {}, level(kind, state)),
    lines.filter(Boolean).map((line) => h("p", { class: "muted" }, line)));
}

const SESSION = {
  live: "live", connecting: "connecting", subscribing: "subscribing", backing_off: "not connected, retries",
  stopping: "closing", stopped: "closed",
};
const BALANCERS_PORTS = [1884, 8884]; // of the shipped haproxy.cfg
const DOWN = { L6TOUT: "hangs", L7TOUT: "hangs", L4TOUT: "can’t be reached" }; // by HAProxy's last check
const CLUSTER = { live: "live", connecting: "connecting", away: "no broker reachable", resting: "refuses the bridge" };

function chain({ mqtt, kafka, flow, haproxy, nodes, state, uptime }) {
  const live = mqtt.state === "live";
  const silent = flow.last_received_age == null || flow.last_received_age > 60;
  const broker = `${mqtt.host}:${mqtt.port}`;
  const connected = live ? "good" : mqtt.state === "connecting" || mqtt.state === "subscribing" ? "warning" : "broken";
  const kafkaLive = kafka.state === "live";
  const kafkaKind = kafkaLive ? "good" : kafka.state === "connecting" ? "warning" : "broken";
  const hasBalancer = haproxy != null || BALANCERS_PORTS.includes(mqtt.port);
  const noneUp = nodes.length > 0 && !nodes.some((node) => node.is_up);

  const devices = host(silent ? "unknown" : "good", "Devices", !live ? "not known" : silent ? "silent" : "sending",
    flow.last_received_age == null ? "no message yet" : `last message ${span(flow.last_received_age)} ago`);
  const balancer = haproxy == null
    ? host(live ? "good" : "unknown", "HAProxy", live ? "lets the bridge through" : "not known", broker,
      "The bridge does not ask HAProxy.")
    : haproxy.trouble || haproxy.asked_age == null || haproxy.asked_age > OLD
      ? host(live ? "warning" : "broken", "HAProxy", haproxy.hangs ? "hangs" : "does not answer", haproxy.trouble,
        haproxy.asked_age != null && `last answer ${span(haproxy.asked_age)} ago`, broker)
      : host("good", "HAProxy", "answers", `asked ${span(haproxy.asked_age)} ago`, broker);
  const emq = nodes.length > 0
    ? nodes.map((node, at) => host(node.is_up ? "good" : "broken", node.name || `EMQ ${at + 1}`,
      node.is_up ? "up" : node.status === "DOWN" ? DOWN[node.check] ?? "down" : `not in use (${node.status})`, `for ${span(node.state_age)}`,
      node.is_up && many(node.sessions, "session"), node.address))
    : !hasBalancer ? [host(connected, "MQTT broker", live ? "answers" : "not connected", broker)]
    : [host(live ? "good" : "unknown", "EMQ", live ? "answers" : "not known",
      "Only HAProxy knows the single nodes.")];
  const bridge = host(state === "running" ? (live && kafkaLive ? "good" : "warning") : "warning", "Bridge",
    state === "running" ? "running" : state, `for ${span(uptime)}`,
    h("span", {}, "MQTT: ", level(connected, SESSION[mqtt.state] ?? mqtt.state), ` for ${span(mqtt.state_age)}`),
    h("span", {}, "Kafka: ", level(kafkaKind, CLUSTER[kafka.state] ?? kafka.state), ` for ${span(kafka.state_age)}`));
  const brokers = kafka.brokers.length > 0
    ? kafka.brokers.map((each) => host(each.is_up ? "good" : "broken", each.number < 0 ? "Kafka" : `Kafka ${each.number}`,
      each.is_up ? "up" : each.hangs ? "hangs" : "down",
      `for ${span(each.state_age)}`, each.round_trip_p99 != null && `round trip ${span(each.round_trip_p99)}`, each.address))
    : [host(kafkaKind, "Kafka", CLUSTER[kafka.state] ?? kafka.state, kafka.bootstrap_servers)];

  const hop = (kind, text) => h("div", { class: `hop ${kind}` }, h("span", {}, text));
  const stage = (arrow, hosts) => h("li", {}, arrow, h("div", { class: "stage" }, hosts));
  fill("chain", { role: "list" },
    stage(null, devices),
    hasBalancer && stage(hop(silent ? "unknown" : "", ""), balancer),
    stage(hop(noneUp ? "broken" : nodes.length ? "" : "unknown", noneUp ? "no node up" : ""), emq),
    stage(hop(live ? "" : "broken", live ? rate(flow.received_rate) : "not connected"), bridge),
    stage(hop(kafkaLive ? "" : "broken", kafkaLive ? rate(flow.delivered_rate) : "not delivered"), brokers));
}

function chart(title, now, step, lines, show, under) {
  const longest = Math.max(...lines.map(({ values }) => values.length));
  const top = nice(Math.max(...lines.flatMap(({ values }) => values), 0), show === span);
  const points = (values) => values.map((value, at) =>
    `${+(100 * (at + longest - values.length) / Math.max(1, longest - 1)).toFixed(2)},${+(40 - 38 * Math.min(1, value / top)).toFixed(2)}`);
  const first = points(lines[0].values);
  const words = lines.map(({ name, values }) => values.length
    ? `${name}: now ${show(values.at(-1))}, least ${show(Math.min(...values))}, most ${show(Math.max(...values))}`
    : `${name}: nothing yet`).join("; ");
  return h("div", { class: "card" }, h("h3", {}, title), h("p", { class: "value" }, now),
    longest < 2
      ? h("p", { class: "muted" }, "The drawing begins in a few seconds.")
      : [h("p", { class: "axis", "aria-hidden": "true" }, show(top)), s("svg", { class: "chart", viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": words },
        s("line", { x1: 0, x2: 100, y1: 2, y2: 2 }), s("line", { x1: 0, x2: 100, y1: 21, y2: 21 }), s("line", { x1: 0, x2: 100, y1: 40, y2: 40 }),
        lines.length === 1 && s("polygon", { class: "area", points: `${first[0].split(",")[0]},40 ${first.join(" ")} 100,40` }),
        lines.map(({ values }, at) => s("polyline", { class: at ? "second" : "first", points: points(values).join(" ") }))),
      h("p", { class: "axis", "aria-hidden": "true" }, h("span", {}, `${span(longest * step > 120 ? Math.round(longest * step / 60) * 60 : (longest - 1) * step)} ago`),
        h("span", {}, "now"))],
    under);
}

// The next round number, so that the scale does not move at every step.
function nice(value, isTime) {
  if (value <= 0) return 1;
  if (isTime && value > 60) {
    const unit = value > 3600 * 36 ? 86400 : value > 5400 ? 3600 : 60;
    return Math.ceil(value / unit / 0.95) * unit;
  }
  const size = 10 ** Math.floor(Math.log10(value));
  return size * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * size >= value * 0.999);
}

function history({ flow, history: past, spool }) {
  const sample = (kind) => s("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, s("line", { class: kind, x1: 0, x2: 26, y1: 5, y2: 5 }));
  const { step } = past;
  fill("history", {},
    chart("Messages a second", rate(flow.received_rate), step,
      [{ name: "received", values: past.received_rate }, { name: "delivered", values: past.delivered_rate }], rate,
      h("p", { class: "key" }, sample("first"), h("b", {}, "received "), `${rate(flow.received_rate)} `, sample("second"),
        h("b", {}, "delivered "), rate(flow.delivered_rate))),
    chart("The oldest message that waits", flow.oldest_undelivered_age ? span(flow.oldest_undelivered_age) : "none waits", step,
      [{ name: "age", values: past.oldest_undelivered_age }], span,
      h("p", { class: "key" }, `last delivered to Kafka: ${flow.last_delivered_age == null ? "never" : `${span(flow.last_delivered_age)} ago`}`)),
    chart("Messages on the bridge’s disk", count(flow.spooled), step, [{ name: "on disk", values: past.spooled }], count,
      h("p", { class: "key" }, `${bytes(spool.bytes_used)} of at most ${bytes(spool.bytes_limit)}`)));
}

function bar(part, kind) {
  return s("svg", { class: `bar ${kind}`, "aria-hidden": "true", preserveAspectRatio: "none" },
    s("rect", { width: `${Math.min(100, 100 * part).toFixed(1)}%`, height: "100%" }));
}
const hurry = (fullIn, soon) => (fullIn == null ? "good" : fullIn < soon / 10 ? "broken" : fullIn < soon ? "warning" : "good");

function waits({ spool, queue, emqx }) {
  const spoolKind = spool.state === "usable" ? hurry(spool.full_in, 86400) : "broken";
  const disk = h("div", { class: "card" }, h("h3", {}, "Spool on disk"),
    h("p", { class: "value" }, many(spool.messages, "message")),
    bar(spool.bytes_used / Math.max(1, spool.bytes_limit), spoolKind),
    h("p", {}, level(spoolKind, spool.state === "full" ? "full: EMQ must queue now" : spool.state === "unusable" ? "unusable"
      : spool.full_in != null ? `at this rate full in about ${span(spool.full_in)}` : spool.messages ? "does not grow" : "nothing waits"),
      spool.state !== "usable" && ` for ${span(spool.state_age)}`),
    spool.state === "usable" && spool.full_in == null && spool.lasts != null && h("p", {},
      `If Kafka took no messages, the spool would be full in about ${span(spool.lasts)}, at the rate of the last 15 minutes.`),
    h("p", { class: "muted" }, `${bytes(spool.bytes_used)} of ${bytes(spool.bytes_limit)}; the disk has ${bytes(spool.disk_free)} free, `
      + `and ${bytes(spool.disk_keep_free)} of it stay free.`),
    spool.reason && h("p", {}, `${spool.reason}. ${spool.way_out}`));

  let emq;
  if (queue) {
    const kind = queue.dropped ? "broken" : hurry(queue.full_in, 60);
    emq = [h("p", { class: "value" }, many(queue.length, "message")),
      queue.limit > 0 && bar(queue.length / queue.limit, kind),
      h("p", {}, level(kind, queue.full_in == null ? "does not grow" : `full in ${span(queue.full_in)} at this rate`)),
      h("p", {}, queue.dropped ? level("broken", `EMQ has dropped ${many(queue.dropped, "message")}: lost`) : "EMQ has dropped none."),
      h("p", { class: "muted" }, `${queue.limit ? `The limit is ${count(queue.limit)}` : "There is no limit"}; `
        + `${count(queue.window)}${queue.window_limit ? ` of ${count(queue.window_limit)}` : ""} are on their way to the bridge.`)];
  } else if (emqx) emq = [h("p", { class: "value" }, "not known"), h("p", {}, emqx.trouble || "EMQ’s API does not answer."),
    emqx.asked_age != null && h("p", { class: "muted" }, `EMQ’s API last answered ${span(emqx.asked_age)} ago.`)];
  else emq = [h("p", { class: "value" }, "not asked"),
    h("p", { class: "muted" }, "With ", h("code", {}, "emqx.api"), " set, EMQ tells how many messages it holds for the bridge, and how many it dropped.")];

  fill("waits", {}, disk, h("div", { class: "card" }, h("h3", {}, "EMQ’s queue for the bridge"), emq));
}

function letters({ spool, flow, program }) {
  const kept = spool.dead_letters;
  fill("letters", {}, h("p", { class: "value" }, kept ? count(kept) : "none"),
    kept > 0
      ? [h("p", {}, level("warning", "Kafka can never take these as they are"), ` (${bytes(spool.dead_letter_bytes)}). They are kept on disk.`),
        h("p", {}, "To see them: ", h("code", {}, `${program.command} dead-letters list${program.config}`))]
      : h("p", { class: "muted" }, "Kafka can take every message that came."),
    flow.dead_letters_removed > 0 && h("p", {}, level("broken", `${count(flow.dead_letters_removed)} removed for good`), " since the start."));
}

function held({ held: topics, waiting_total: waiting }) {
  document.getElementById("held-section").hidden = topics.length === 0;
  fill("held", {}, h("table", {},
    waiting > topics.length && h("caption", {}, `The first ${topics.length} of ${count(waiting)}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "topic"), h("th", { scope: "col" }, "why"), h("th", { scope: "col", class: "number" }, "messages"))),
    h("tbody", {}, topics.map((topic) => h("tr", {}, h("th", { scope: "row" }, h("b", {}, topic.topic)),
      h("td", {}, `${topic.reason || topic.state}, for ${span(topic.state_age)}. `, topic.way_out && h("code", {}, topic.way_out)),
      h("td", { class: "number" }, count(topic.messages)))))));
}

function sums({ flow }) {
  const row = (name, n, kind) => h("tr", { class: kind }, h("th", { scope: "row" }, name), h("td", { class: "number" }, count(n)));
  const rows = (pairs) => pairs.filter(([, n, always]) => n || always).map(([name, n]) => row(name, n));
  const because = (text, reasons) => `${text}${total(reasons) ? ` (${Object.keys(reasons).join(", ")})` : ""}`;
  fill("sums", {}, h("table", {}, h("caption", {}, "Since the start of the bridge"), h("tbody", {},
    rows([["received from EMQ", flow.received, true], ["found on disk at the start", flow.restored]]),
    row("came in", flow.received + flow.restored, "sum"),
    rows([["delivered to Kafka", flow.delivered, true], ["in flight to Kafka", flow.in_flight, true], ["on disk", flow.spooled, true],
      [because("dead letters", flow.dead_lettered), total(flow.dead_lettered), true], [because("skipped by a route", flow.skipped), total(flow.skipped)],
      [because("dropped at QoS 0", flow.dropped), total(flow.dropped)], ["unreadable on disk", flow.unreadable]]),
    row("accounted for", flow.received + flow.restored - flow.unaccounted, "sum"))),
  h("p", {}, flow.unaccounted ? level("broken", `${count(flow.unaccounted)} unaccounted: this is a defect, report it`) : level("good", "The sums add up.")),
  flow.joined > 0 && h("p", { class: "muted" }, `EMQ sent ${many(flow.joined, "message")} a second time; Kafka got each of them once.`));
}

function routes({ routes: all }) {
  fill("routes", {}, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "MQTT"), h("th", { scope: "col" }, "Kafka topic"), h("th", { scope: "col", class: "number" }, "delivered"))),
    h("tbody", {}, all.map((route) => h("tr", {},
      h("th", { scope: "row" }, h("b", {}, route.name), h("br"), h("code", {}, route.filter)),
      h("td", {}, route.topic ? h("code", {}, route.topic) : "dropped"),
      h("td", { class: "number" }, route.topic ? count(route.delivered) : `${count(route.skipped)} dropped`))))));
}

function bridgeCard(snapshot) {
  const { mqtt, flow, kafka: { transactions } } = snapshot;
  const now = Date.now() / 1000;
  const row = (name, ...text) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, text));
  fill("bridge", {}, h("table", {}, h("tbody", {},
    row("version", snapshot.version), row("client id", h("code", {}, mqtt.client_id)),
    row("MQTT", `version ${mqtt.protocol}, connected ${times(mqtt.connects)}, session ${mqtt.sessions_lost ? `lost ${times(mqtt.sessions_lost)}` : "never lost"}`),
    transactions && row("exactly once", `${count(transactions.committed)} transactions committed, ${count(transactions.failed)} failed; `,
      `${many(flow.spooled, "message")} on disk that no transaction has committed`,
      transactions.fenced > 0 && level("broken", `; fenced ${times(transactions.fenced)} by another bridge with the same transactional id`)),
    mqtt.refused.length > 0 && row("refused filters", h("code", {}, mqtt.refused.join(" "))),
    snapshot.certificates.map(({ whose, expires_at: at }) => row(`certificate: ${whose}`,
      at < now ? level("broken", `expired ${span(now - at)} ago`)
        : level(at - now < 14 * 86400 ? "warning" : "good", `expires in ${span(at - now)}`))),
    row("clock", snapshot.clock_trusted ? level("good", "right") : level("warning", "not synchronised: records get no timestamp")),
    (snapshot.reloaded_age != null || snapshot.reload_trouble) && row("settings",
      snapshot.reload_trouble ? level("warning", `the last reload changed nothing: ${snapshot.reload_trouble}`) : `read again ${span(snapshot.reloaded_age)} ago`))));
}

function events({ happened }) {
  fill("events", {}, happened.length === 0 ? h("p", { class: "muted" }, "Nothing worth telling has happened yet.")
    : h("ul", { class: "events", role: "list" }, happened.map((event) => h("li", {},
      h("span", { class: "muted" }, `${span(event.age)} ago`),
      level(event.level, event.level),
      h("span", { class: "text" }, event.text, " ", event.level === "info" ? h("span", { class: "muted" }, event.event) : runbook(event.event))))));
}

// -- the loop -----------------------------------------------------------------------------------------

let last = null; // the last document
let madeAt = 0; // when its snapshot was made, by this machine's clock in ms
let failedSince = 0; // since when no request was answered; 0: the last one was
let reason = "";

const TITLE = { good: "✓", warning: "!", broken: "✕" };

function look() {
  const { unit, command, config } = last?.snapshot.program ?? {};
  if (unit) return `On the bridge’s machine run: \`systemctl status ${unit}\`.`;
  return `See on the bridge’s machine whether the bridge runs.${command ? ` This starts it: \`${command}${config}\`.` : ""}`;
}

function draw() {
  const age = last && (performance.now() - madeAt) / 1000;
  const gone = failedSince > 0 && (!last || age > 4);
  const stale = last != null && (gone || age > STALE);
  document.body.classList.toggle("stale", stale);
  fill("age", {}, last ? `${stale ? "Old: this" : "This"} is the state of ${span(Math.max(1, Math.round(age)))} ago` : "No state yet");
  if (gone) {
    const since = span(Math.max(1, Math.round((performance.now() - failedSince) / 1000)));
    verdict("broken", `The bridge has not answered for ${since}${last ? ". All below is old" : ""}.`, [{
      level: "broken", host: location.host, what: `${location.host} gave no answer (${reason}).`,
      remedy: `${look()} If that machine does not answer, it is off or its network is.`,
    }]);
  } else if (last) verdict(last.diagnosis.level, last.diagnosis.sentence, last.diagnosis.findings);
  const kind = gone || stale ? "broken" : last?.diagnosis.level;
  document.title = `${kind ? `${TITLE[kind]} ` : ""}MQTT to Kafka bridge`;
}

async function ask() {
  const began = performance.now();
  try {
    const response = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
    last = await response.json();
    madeAt = began - 1000 * Number(response.headers.get("Age") ?? 0);
    failedSince = 0;
    const { snapshot } = last;
    for (const part of [chain, history, waits, letters, held, sums, routes, bridgeCard, events]) part(snapshot);
  } catch (error) {
    failedSince ||= began;
    reason = error.name === "TimeoutError" ? `none within ${TIMEOUT / 1000} s` : error instanceof TypeError ? "no connection" : error.message;
  }
  draw();
  setTimeout(ask, PERIOD);
}

setInterval(draw, 1000);
ask();
