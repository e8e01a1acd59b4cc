// What a page does besides showing: progress while a job runs, and the upload. Everything else works without it.

const main = document.querySelector("main");

/** Load this page again and put its content in place, unless somebody is typing in it. */
async function reload() {
  const focused = document.activeElement;
  if (focused && main.contains(focused) && focused.matches("input, textarea")) return;
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (answer.redirected) return location.reload();
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const href = focused && main.contains(focused) ? focused.getAttribute("href") : null;
  main.replaceChildren(...fresh.childNodes);
  if (href) [...main.querySelectorAll("a")].find((a) => a.getAttribute("href") === href)?.focus();
}

function show(job) {
  for (const place of document.querySelectorAll(`[data-job="${Number(job.id)}"].progress`)) {
    place.querySelector("progress").value = job.fraction;
    place.querySelector("small").textContent = `${job.stage} ${Math.round(100 * job.fraction)} %`;
  }
}

function away(is) {
  document.querySelector(".offline")?.remove();
  if (!is) return;
  const note = document.createElement("p");
  note.className = "alert offline";
  note.setAttribute("role", "status");
  note.textContent = "The node does not answer; this page shows what was known last.";
  document.body.append(note);
}

if (main.hasAttribute("data-live")) {
  let mark = null;
  const events = new EventSource("/live");
  events.addEventListener("message", (event) => {
    const told = JSON.parse(event.data);
    away(false);
    told.jobs.forEach(show);
    if (mark !== null && told.mark !== mark) reload();
    mark = told.mark;
  });
  events.addEventListener("away", () => away(true));
  events.addEventListener("error", () => away(true));
  addEventListener("pagehide", () => events.close());
}

// ---- upload

const form = document.getElementById("upload");

/** All files of what was dropped, folders opened. */
async function filesOf(items) {
  const found = [];
  const open = async (entry) => {
    if (entry.isFile) return found.push(await new Promise((done, no) => entry.file(done, no)));
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, no) => reader.readEntries(done, no));
      if (!some.length) return;
      for (const one of some) await open(one);
    }
  };
  const entries = [...items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  for (const entry of entries) await open(entry);
  return found;
}

/** Send files in requests of at most 200 files or 256 MB; each is answered once all of it is kept. */
async function send(files) {
  const state = document.getElementById("upload-state");
  const bar = document.getElementById("upload-progress");
  const total = { stored: 0, same: 0, other: 0, refused: 0 };
  const reasons = [];
  let sent = 0;
  bar.hidden = false;
  state.textContent = `${files.length} files are being sent.`;
  for (let at = 0; at < files.length; ) {
    const body = new FormData();
    let size = 0;
    let count = 0;
    while (at < files.length && count < 200 && (count === 0 || size + files[at].size < 268435456)) {
      body.append("files", files[at], files[at].name);
      size += files[at].size;
      count += 1;
      at += 1;
    }
    const answer = await fetch("/upload", { method: "POST", body, headers: { "X-Form-Token": form.dataset.token } })
      .catch(() => null);
    const told = await answer?.json().catch(() => null);
    sent += count;
    bar.value = sent / files.length;
    if (answer?.ok) {
      for (const name of Object.keys(total)) total[name] += told[name];
      reasons.push(...told.reasons.map((one) => `${one.file}: ${one.reason}`));
    } else {
      total.refused += count;
      reasons.push(told?.error ?? "The node did not answer: send these files again.");
    }
  }
  const lines = [`${total.stored} images are stored.`];
  if (total.same) lines.push(`${total.same} were here already.`);
  if (total.other) lines.push(`${total.other} are in quarantine: another image has their UID.`);
  if (total.refused) lines.push(`${total.refused} were not kept.`);
  const list = document.createElement("ul");
  for (const text of [...lines, ...new Set(reasons)].slice(0, 40)) {
    const item = document.createElement("li");
    item.textContent = text;
    list.append(item);
  }
  state.replaceChildren(list);
}

if (form) {
  for (const input of form.querySelectorAll("input[type=file]"))
    input.addEventListener("change", () => send([...input.files]).then(() => (input.value = "")));
  form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", async (event) => {
    event.preventDefault();
    form.classList.remove("over");
    send(await filesOf(event.dataTransfer.items));
  });
}

// ---- table of DLCO: the token goes in a header, since the form holds a file

const table = document.getElementById("table");
table?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const headers = { "X-Form-Token": table.dataset.token, "Content-Type": "text/csv" };
  const answer = await fetch("/api/v1/cohort/dlco", { method: "POST", body: table.elements.table.files[0], headers });
  const told = await answer.json();
  const state = table.querySelector("[role=status]");
  state.textContent = answer.ok ? [`${told.taken} rows are kept.`, ...told.left_out].join(" ") : told.error;
  if (answer.ok && told.taken && !told.left_out.length) location.reload();
});
