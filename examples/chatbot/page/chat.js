// The page reads one native EventSource on its own origin, and says only what that stream tells.
// Words are kept by their number, so an event that comes twice changes nothing.

import { showAbout, showNote, showPath, showReply, showState, showMessage, markMessage, onSend } from "./view.js";

const replies = new Map(); // reply id → {words, done, …}: what is known of a reply
const seen = new Set(); // cursors of the events that were shown
const sent = new Map(); // message id → when this page sent it
let lastReply = null; // the reply whose path the panel shows

const source = new EventSource("/chat/stream");
source.onerror = () => showState("reconnecting");
hear("chat.about", (about) => showAbout(about));
hear("chat.live", () => showState("live"));
hear("chat.waiting", () => showState("waiting"));
hear("hookbrook.drain", () => showState("reconnecting"));
hear("hookbrook.reset", ({ reason }) => showNote("History begins anew here: ", reason ?? "the cursor is not known"));

on("message", (text) => showNote("Published from elsewhere: ", text), String);

on("chat.message", (data, cursor) => {
  showMessage(data.message, data.text, "sent");
  const reply = find(data.reply);
  reply.sent = sent.get(data.message);
  reply.published = { channel: `chat.${data.conversation}`, event: data.reply.replace(/-reply$/, ""), cursor };
  reached(reply, "published");
  lastReply = reply;
  show(reply);
});

on("chat.step", (data) => {
  const reply = find(data.reply);
  if (data.step === "accepted") {
    reply.accepted = { webhook: data.webhook, engine: data.engine };
    showAbout({ engine: data.engine });
  } else {
    reply.verified = { callback: data.callback, cursor: data.cursor };
  }
  reached(reply, data.step);
  show(reply);
});

on("chat.delta", (data, cursor) => {
  const reply = find(data.reply);
  reply.words[data.n - 1] ??= data.text;
  reply.streamed = { words: reply.words.length, cursor };
  if (data.n === 1) reached(reply, "streamed");
  show(reply);
});

on("chat.done", (data, cursor) => {
  const reply = find(data.reply);
  reply.done = true;
  reply.streamed = { words: data.words, cursor };
  reached(reply, "done");
  show(reply);
});

onSend(async (text) => {
  const id = crypto.getRandomValues(new Uint32Array(2)).reduce((all, part) => all + part.toString(36), "m");
  sent.set(id, performance.now());
  showMessage(id, text, "sending");
  // The id makes a repeated request harmless, so the page tries until the message is on its way.
  for (let pause = 500; ; pause = Math.min(pause * 2, 5000)) {
    const outcome = await post({ id, text });
    if (outcome === "sent") return;
    if (outcome !== "again") return markMessage(id, "failed", outcome);
    markMessage(id, "sending", "Hookbrook or the application is away; trying again…");
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
});

async function post(message) {
  try {
    const headers = { "Content-Type": "application/json" };
    const response = await fetch("/chat/messages", { method: "POST", headers, body: JSON.stringify(message) });
    return response.ok ? "sent" : response.status >= 500 ? "again" : await response.text();
  } catch {
    return "again"; // the application does not answer
  }
}

// What the connection itself tells; these events have no cursor of their own.
function hear(type, handle) {
  source.addEventListener(type, (event) => handle(JSON.parse(event.data)));
}

// What was published, each event once.
function on(type, handle, read = JSON.parse) {
  source.addEventListener(type, (event) => {
    if (seen.has(event.lastEventId)) return;
    seen.add(event.lastEventId);
    handle(read(event.data), event.lastEventId);
  });
}

function find(id) {
  if (!replies.has(id)) replies.set(id, { id, words: [], done: false, times: {} });
  return replies.get(id);
}

function reached(reply, step) {
  reply.times[step] ??= performance.now() - reply.sent; // not a number for what this page did not send
}

function show(reply) {
  showReply(reply.id, reply.words.join(""), reply.done);
  lastReply ??= reply;
  if (reply === lastReply) showPath(reply);
}