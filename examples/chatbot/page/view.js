// The page's elements: what is shown, and how. Everything from the stream is set as text, never as HTML.

const element = (id) => document.getElementById(id);
const [scroller, bubbles, composer, text, panel] = ["scroller", "bubbles", "composer", "text", "panel"].map(element);
const STATES = { connecting: "connecting…", live: "live", reconnecting: "reconnecting…", waiting: "waiting for Hookbrook…" };

/** Call `send` with what the user wrote or chose. */
export function onSend(send) {
  const submit = (message) => {
    if (!message.trim()) return;
    send(message.trim());
    text.value = "";
    fit();
    text.focus();
  };
  const fit = () => {
    composer.querySelector("button").disabled = !text.value.trim();
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  };
  composer.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(text.value);
  });
  text.addEventListener("input", fit);
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit(text.value);
  });
  for (const button of element("suggestions").querySelectorAll("button")) {
    button.addEventListener("click", () => submit(button.textContent));
  }
  fit();
}

export function showState(state) {
  element("state").dataset.state = state;
  element("state").textContent = STATES[state];
}

/** Which engine answers, and the commands that fit this conversation; what is absent stays as it is. */
export function showAbout({ engine, channel, hookbrook }) {
  if (engine) element("engine").textContent = `answers ${engine}`;
  if (!channel) return;
  const url = `${hookbrook}/v1/channels/${channel}`;
  element("commands").replaceChildren(
    command("Read this conversation", `curl -N -H "Accept: text/event-stream" "${url}?last=20"`),
    command("Speak into it", `curl -d "Hello from the terminal!" ${url}`),
  );
}

function command(purpose, line) {
  const button = make("button", { type: "button", title: "Copy" }, make("small", {}, purpose), line);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(line);
    button.firstChild.textContent = "Copied";
    setTimeout(() => (button.firstChild.textContent = purpose), 1500);
  });
  return make("li", {}, button);
}

export function showMessage(id, words, state) {
  const bubble = bubbleFor(`message-${id}`, "user");
  bubble.replaceChildren(words);
  bubble.classList.toggle("sending", state === "sending");
  bubble.classList.remove("failed");
}

/** A remark under a message: why it was not sent, or not yet. */
export function markMessage(id, state, remark) {
  const bubble = bubbleFor(`message-${id}`, "user");
  if (!bubble.classList.contains("sending")) return; // the stream had it meanwhile
  bubble.classList.toggle("sending", state === "sending");
  bubble.classList.toggle("failed", state === "failed");
  bubble.querySelector(".remark")?.remove();
  bubble.append(make("span", { className: "remark" }, remark));
}

export function showReply(id, words, done) {
  const bubble = bubbleFor(`reply-${id}`, "reply");
  const wasDone = bubble.ariaBusy === "false";
  bubble.ariaBusy = String(!done);
  if (words || done) {
    bubble.replaceChildren(make("span", { className: done ? "" : "growing" }, ...formatted(words)));
  } else {
    bubble.replaceChildren(make("span", { className: "dots", ariaLabel: "The engine works" }, ...["", "", ""].map(() => make("i"))));
  }
  // Screen readers hear the whole reply once, rather than every word as it comes.
  if (done && !wasDone) element("announcer").textContent = words;
  keepAtBottom();
}

export function showNote(label, words) {
  const note = make("li", { className: "bubble note" }, make("b", {}, label), words);
  add(note);
}

/** The way that the last message took, step by step; `now` is the step that is waited for. */
export function showPath(reply) {
  element("idle").hidden = true;
  element("path").hidden = false;
  const { published, accepted, verified, streamed, done, times } = reply;
  const facts = { published, accepted: accepted && { webhook: accepted.webhook }, verified, streamed };
  let waiting = true;
  for (const item of element("path").children) {
    const step = item.dataset.step;
    const reached = step === "streamed" ? done : Boolean(facts[step]);
    item.classList.toggle("done", reached);
    item.classList.toggle("now", !reached && waiting);
    waiting = reached;
    const after = times[step === "streamed" ? "done" : step];
    item.lastElementChild.replaceChildren(...(facts[step] ? [list(facts[step], after)] : []));
  }
  element("path").lastElementChild.firstElementChild.textContent = done ? "Streamed to the end" : "Streaming word by word";
}

function list(facts, after) {
  const rows = Object.entries(facts).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]);
  if (after > 0) rows.push(make("dt", {}, "after"), make("dd", {}, `${(after / 1000).toFixed(2)} s`));
  return make("dl", {}, ...rows);
}

// Back ticks become code, as in the documentation that the replies quote.
function formatted(words) {
  return words.split(/`([^`]+)`/).map((part, number) => (number % 2 ? make("code", {}, part) : part));
}

function bubbleFor(id, kind) {
  return element(id) ?? add(make("li", { id, className: `bubble ${kind}` }));
}

function add(bubble) {
  document.body.classList.remove("empty");
  bubbles.append(bubble);
  keepAtBottom();
  return bubble;
}

// Follow the growing reply, unless the reader has scrolled up.
let follows = true;
scroller.addEventListener("scroll", () => {
  follows = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
});

function keepAtBottom() {
  if (follows) scroller.scrollTop = scroller.scrollHeight;
}

function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Wide screens always show the panel; on narrow ones it opens on demand.
const wide = matchMedia("(min-width: 901px)");
const arrange = () => (panel.open = wide.matches);
wide.addEventListener("change", arrange);
arrange();
