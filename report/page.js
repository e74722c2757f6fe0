"use strict";

const specOf = JSON.parse(document.getElementById("charts").textContent);
const profilesOf = JSON.parse(document.getElementById("profiles-data").textContent); // by workload
const FUNCTIONS_SHOWN = 25;

// The page holds its libraries as text, which no HTML parser can mistake for markup.
function load(id) {
  const code = JSON.parse(document.getElementById(id).textContent);
  return import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
}

// Vega-Lite draws the charts. The parameter `hidden` of a chart lists the servers that it hides.
const views = [];
async function drawChart(place) {
  const spec = specOf[place.dataset.chart];
  // ast: Vega interprets expressions, since the page's policy forbids eval.
  const { view } = await vegaEmbed(place, spec, { actions: false, ast: true, renderer: "svg", tooltip: { theme: "dark" } });
  if ((spec.params || []).some((param) => param.name === "hidden")) {
    views.push(view);
    await view.signal("hidden", hiddenServers()).runAsync();
  }
  // Vega gives each group of marks the role of a symbol, but labels only the marks.
  for (const group of place.querySelectorAll("g[role='graphics-symbol']:not([aria-label])")) group.removeAttribute("role");
  document.body.dataset.charts = Number(document.body.dataset.charts || 0) + 1;
}
function hiddenServers() {
  const boxes = [...document.querySelectorAll("#servers input")];
  return boxes.filter((box) => !box.checked).map((box) => box.value);
}
document.getElementById("servers").addEventListener("change", () => {
  for (const view of views) view.signal("hidden", hiddenServers()).runAsync();
});

// Parts of the page are of one workload each. A chart is drawn when it is first shown: before, it has no width.
const vegaIsLoaded = load("vega");
const drawn = new Set();
async function drawShownCharts() {
  await vegaIsLoaded;
  for (const place of document.querySelectorAll("[data-chart]")) {
    if (drawn.has(place) || place.closest("[hidden]")) continue;
    drawn.add(place);
    drawChart(place);
  }
}
const choice = document.getElementById("workload"); // null if there is one workload
const dataTables = [];
const exactly = (text) => `^${text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`;
function filterTables(tables) {
  if (choice) for (const table of tables) table.column("workload:title").search(exactly(choice.value), true, false).draw();
}
function showWorkload() {
  if (choice) for (const part of document.querySelectorAll("[data-workload]")) part.hidden = part.dataset.workload !== choice.value;
  filterTables(dataTables);
  drawShownCharts();
  showProfiles();
}
if (choice) choice.addEventListener("change", showWorkload);
for (const button of document.querySelectorAll("[data-choose]")) {
  button.addEventListener("click", () => {
    choice.value = button.dataset.choose;
    showWorkload();
    document.getElementById("answer").scrollIntoView();
  });
}

// Flamegraphs: inferno's SVG with its script, each in a separate document.
const selects = ["left", "right"].map((side) => document.getElementById(`server_${side}`));
function chosenProfile(select) {
  const [first] = Object.keys(profilesOf);
  return profilesOf[choice ? choice.value : first]?.find((profile) => profile.server === select.value);
}
function showFlamegraph(select, side) {
  const { server, workload, status, reason, svg } = chosenProfile(select);
  const frame = document.getElementById(`flamegraph_${side}`);
  frame.hidden = status !== "ok";
  const again = status === "invalid" ? ` (to try again, delete results/profile/${workload}/${server}.json)` : "";
  document.getElementById(`missing_${side}`).textContent = frame.hidden ? `No flamegraph: ${reason}${again}` : "";
  const title = document.createElement("title");
  title.textContent = `Flamegraph of ${server}`;
  const head = `<!DOCTYPE html><html lang="en">${title.outerHTML}<style>body { margin: 0 } svg { display: block; width: 100% } #title, #subtitle { display: none }</style>`;
  frame.srcdoc = head + svg.slice(svg.indexOf("<svg"));
}
function cell(row, text, tag = "td") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (tag === "th") element.scope = "row";
  row.append(element);
}
function describeMissing(profile) {
  return profile.status === "ok" ? "no valid run at the profile's number of connections" : "no profile";
}
function showSelfTimes() {
  const body = document.querySelector("#self_times tbody");
  const note = document.getElementById("self_times_note");
  const [a, b] = selects.map(chosenProfile);
  const missing = [...new Set([a, b])].filter((p) => p.status !== "ok" || p.cpu_us_per_request === null);
  body.replaceChildren();
  document.getElementById("self_times").hidden = missing.length > 0;
  if (missing.length > 0) {
    note.textContent = missing.map((p) => `${p.server}: ${describeMissing(p)}`).join("; ");
    return;
  }
  const time = (profile, name) => (profile.self_share[name] || 0) * profile.cpu_us_per_request;
  const names = [...new Set([a, b].flatMap((profile) => Object.keys(profile.self_share)))];
  const difference = (name) => time(b, name) - time(a, name);
  names.sort((x, y) => Math.abs(difference(y)) - Math.abs(difference(x)));
  for (const name of names.slice(0, FUNCTIONS_SHOWN)) {
    const row = document.createElement("tr");
    cell(row, name, "th");
    cell(row, time(a, name).toFixed(3));
    cell(row, time(b, name).toFixed(3));
    cell(row, `${difference(name) < 0 ? "−" : "+"}${Math.abs(difference(name)).toFixed(3)}`);
    body.append(row);
  }
  const total = (profile) => `${profile.server} ${profile.cpu_us_per_request.toFixed(2)} µs (${profile.samples.toLocaleString("en")} samples)`;
  note.textContent = `A: ${total(a)}. B: ${total(b)}. Measured at ${a.connections} connections. The self time of a function with few samples may differ by chance.`;
}
function showProfiles() {
  const isProfiled = chosenProfile(selects[0]) !== undefined;
  document.getElementById("profiled").hidden = !isProfiled;
  if (!isProfiled) return;
  ["left", "right"].forEach((side, index) => showFlamegraph(selects[index], side));
  showSelfTimes();
}
for (const [index, side] of ["left", "right"].entries()) {
  selects[index].addEventListener("change", () => {
    showFlamegraph(selects[index], side);
    showSelfTimes();
  });
}

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const term = document.getElementById("term").value.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  for (const frame of document.querySelectorAll("iframe")) {
    const flamegraph = frame.contentWindow;
    if (!flamegraph.search) continue; // the document has a notice, not a flamegraph
    flamegraph.searching = 1; // now the prompt clears the last search, as its button does
    flamegraph.search_prompt();
    if (term) flamegraph.search(term);
  }
});
// inferno's script keeps zoom and search in the document's address, which such a document may not change.
for (const frame of document.querySelectorAll("iframe")) {
  frame.addEventListener("load", () => {
    frame.contentWindow.history.replaceState = () => {};
    if (!frame.hidden) frame.style.height = `${frame.contentDocument.body.scrollHeight}px`;
  });
}

// Save the shown rows, with names and numbers as in the files (but flags separated by spaces).
const csvButton = (table) => ({
  extend: "csv",
  text: "Save shown rows as CSV",
  filename: table.id.replace("table_", ""),
  exportOptions: {
    format: {
      header: (text) => text.replaceAll("\u200b", ""),
      body: (text, row, column, cell) => cell.dataset.order ?? cell.textContent,
    },
  },
});

// DataTables sorts, filters and saves the tables; without it they are plain tables.
async function enhanceTables() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark", dark.matches);
  dark.addEventListener("change", follow);
  follow();
  const { jQuery } = await load("datatables");
  for (const table of document.querySelectorAll("table.data")) {
    const enhanced = jQuery(table).DataTable({
      autoWidth: false,
      order: [],
      pageLength: 10,
      layout: { topStart: "pageLength", topEnd: "search", bottomStart: "info", bottomEnd: "paging", top2Start: { buttons: [csvButton(table)] } },
    });
    dataTables.push(enhanced);
  }
  filterTables(dataTables);
  document.body.dataset.tables = "ready";
}

showWorkload();
enhanceTables();
