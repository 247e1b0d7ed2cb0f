// What the pages cannot do without a script: keys, the time a decision took, retries of a vote that met no server.
"use strict";

const RETRY_SECONDS = [0.3, 1, 2, 4, 8];
const LIVE_SECONDS = 5;
const state = document.getElementById("state");
let sending = false;

// Time counts only while the page is in sight.
let seen = 0;
let since = document.hidden ? null : performance.now();
document.addEventListener("visibilitychange", () => {
  if (document.hidden && since !== null) { seen += performance.now() - since; since = null; }
  else if (!document.hidden) since = performance.now();
});
const seconds = () => (seen + (since === null ? 0 : performance.now() - since)) / 1000;

// The number of a vote is made once, here: however often the request is sent, it is one vote.
const voteNumber = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
for (const form of document.querySelectorAll("form#vote, form#undo")) {
  form.elements.id.value = voteNumber();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, event.submitter);
  });
}

async function send(form, button) {
  if (sending) return;
  sending = true;
  if (form.elements.seconds) form.elements.seconds.value = seconds().toFixed(2);
  const body = new URLSearchParams(new FormData(form, button));
  button.classList.add("pressed");
  for (let attempt = 0; ; attempt++) {
    let response = null;
    try {
      response = await fetch(form.action, { method: "POST", body, redirect: "manual" });
    } catch { /* no server: it is tried again */ }
    if (response && (response.type === "opaqueredirect" || response.status === 409)) break;
    if (response && response.status < 500) {
      state.textContent = "Not counted. Reload this page, or open your link again.";
      sending = false;
      return;
    }
    state.textContent = "Not saved yet: the desk does not answer. It is being tried again; keep this page open.";
    await new Promise((done) => setTimeout(done, 1000 * RETRY_SECONDS[Math.min(attempt, RETRY_SECONDS.length - 1)]));
  }
  location.replace("/");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const button = document.querySelector(`button[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (button && !button.disabled) { event.preventDefault(); button.click(); }
});

// The summary follows the votes; what a reader has open or reads stays where it is.
const live = document.getElementById("live");
if (live) {
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const response = await fetch("/summary");
      if (!response.ok) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.getElementById("live");
      if (fresh.innerHTML !== live.innerHTML) live.replaceChildren(...fresh.childNodes);
    } catch { /* the next turn may find it */ }
  }, 1000 * LIVE_SECONDS);
}
