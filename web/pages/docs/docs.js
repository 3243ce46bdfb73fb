// The page: reads the document of a version, lists its operations, shows them, and finds among them.

import { make, prose, sample } from "./make.js";
import { searched, section } from "./operation.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const [version, search, contents, main, source] = ["version", "search", "contents", "main", "source"].map((id) => document.getElementById(id));
let shown = [];
let latest = 0;

/** The operations of a document, in its order. */
function operations(api) {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ ...item[method], path, method })));
}

function beginning(api) {
  return make("section", { class: "operation" },
    ...prose(api.info.description),
    make("p", {}, "The examples need these:"),
    sample(`ORIGIN=${location.origin}\nTOKEN=…    # access_token of a login\nREFRESH=…  # refresh_token of a login\n`
      + "ID=…       # id of what the address names\nKIND=…     # name of a kind\nMETRIC=…   # name of a metric\n"
      + "MAIL_TOKEN=…  # token of a mail\nCODE=…        # code of an app"));
}

function draw(api) {
  const all = operations(api);
  const tags = (api.tags ?? []).map((tag) => tag.name);
  shown = [];
  contents.replaceChildren();
  main.replaceChildren(beginning(api));
  for (const tag of tags) {
    const title = make("h2", {}, tag);
    const listed = make("h2", {}, tag);
    const group = { title, listed, members: [] };
    contents.append(listed);
    main.append(title);
    for (const operation of all.filter((one) => one.tags?.[0] === tag)) {
      const link = make("a", { href: `#${operation.operationId}` },
        make("b", { class: operation.method }, operation.method.toUpperCase()), operation.summary);
      const element = section(api, operation);
      group.members.push({ link, element, text: searched(api, operation) });
      contents.append(link);
      main.append(element);
    }
    shown.push(group);
  }
  find();
  point();
}

function find() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { title, listed, members } of shown) {
    let any = false;
    for (const { link, element, text } of members) {
      const hidden = !wanted.every((word) => text.includes(word));
      link.hidden = element.hidden = hidden;
      any ||= !hidden;
    }
    title.hidden = listed.hidden = !any;
  }
}

function point() {
  const id = location.hash.slice(1);
  for (const link of contents.querySelectorAll("a")) {
    if (link.hash === location.hash && id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  if (id) document.getElementById(id)?.scrollIntoView();
}

async function read() {
  const mine = ++latest;
  const address = `/api/${version.value}/openapi.json`;
  source.href = address;
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    const api = await answer.json();
    if (mine === latest) draw(api);
  } catch (error) {
    if (mine === latest) main.replaceChildren(make("p", { role: "alert" }, `The document can't be read: ${error.message}. Reload the page.`));
  }
}

version.addEventListener("change", read);
search.addEventListener("input", find);
addEventListener("hashchange", point);
document.getElementById("picker").addEventListener("submit", (event) => event.preventDefault());
read();
