// Building the page. Everything that comes from a mail or a person enters it
// as text: there is no innerHTML anywhere in this program.

const SVG = "http://www.w3.org/2000/svg";

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

// h("button", {class: "quiet", onclick: f, "aria-label": "Reply"}, "Reply").
// A property whose value is false, null or undefined is left out.
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key === "value") node.value = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
}

// 24 x 24, drawn with strokes.
const ICONS = {
  inbox: ["M3 13l3-8h12l3 8v6H3z", "M3 13h5l1.500 3h5l1.500-3h5"],
  sent: ["M4 12l16-8-6 16-3-6.500z", "M11 13.500L20 4"],
  drafts: ["M5 3h9l5 5v13H5z", "M14 3v5h5", "M9 13h6M9 17h4"],
  archive: ["M3 4h18v5H3z", "M5 9v11h14V9", "M10 13h4"],
  junk: ["M12 3l9 16H3z", "M12 10v4M12 16.500v.5"],
  trash: ["M4 7h16", "M9 7V4h6v3", "M6 7l1 13h10l1-13", "M10 11v5M14 11v5"],
  folder: ["M3 6h6l2 2h10v11H3z"],
  compose: ["M4 20l1-4L16 5l3 3L8 19z", "M14 7l3 3"],
  reply: ["M10 6l-6 5 6 5v-3.500c5 0 8 1.500 10 5-.5-5.500-4-8.500-10-9z"],
  replyAll: ["M13 6l-6 5 6 5v-3.500c4 0 6.500 1.500 8 5-.5-5.500-3-8.500-8-9z", "M7 6l-5 5 5 5"],
  forward: ["M14 6l6 5-6 5v-3.500c-5 0-8 1.500-10 5 .5-5.500 4-8.500 10-9z"],
  unread: ["M3 6h18v13H3z", "M3 7l9 7 9-7"],
  star: ["M12 3.500l2.600 5.500 6 .8-4.400 4.200 1.100 6L12 17l-5.300 3 1.100-6L3.400 9.800l6-.8z"],
  clip: ["M8 12.500l6-6a3 3 0 0 1 4.300 4.300l-7.800 7.800a5 5 0 0 1-7-7l7-7"],
  back: ["M15 5l-7 7 7 7"],
  menu: ["M4 7h16M4 12h16M4 17h16"],
  close: ["M6 6l12 12M18 6L6 18"],
  refresh: ["M19 12a7 7 0 1 1-2-5", "M19 4v4h-4"],
  download: ["M12 4v11M7 10.500l5 5 5-5", "M4 20h16"],
  source: ["M8 7l-5 5 5 5M16 7l5 5-5 5"],
  key: ["M6 11h12v9H6z", "M8.500 11V8a3.500 3.500 0 0 1 7 0v3", "M12 14.500v2"],
  leave: ["M10 4H5v16h5", "M14 8l4 4-4 4M18 12H9"],
  help: ["M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18z", "M9.500 9.500a2.500 2.500 0 1 1 3.500 2.500c-.7.3-1 .8-1 1.700M12 16.800v.2"],
  check: ["M5 12.500l4.500 4.500L19 7"],
  shield: ["M12 3l8 3v6c0 4.500-3 7.500-8 9-5-1.500-8-4.500-8-9V6z"],
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const d of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

// A button with an icon; LABEL is its accessible name and tooltip.
export function iconButton(name, label, onclick, props = {}) {
  return h("button", { type: "button", class: "icon-button", title: label,
    "aria-label": label, onclick, ...props }, icon(name));
}
