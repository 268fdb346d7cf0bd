// A coloured response. Whatever a model wrote goes into text nodes only: nothing here reads markup.

const BLOCK_CHARACTERS = 4000;
const states = new WeakMap();

function made(tag, name, text) {
  const one = document.createElement(tag);
  if (name) one.className = name;
  if (text !== undefined) one.textContent = text;
  return one;
}

function shaded(one, shade) {
  one.style.setProperty("--hue", shade.hue);
  one.style.setProperty("--part", `${100 * shade.strength}%`);
  one.style.setProperty("--line", shade.line);
}

function legend(data) {
  const list = made("ul");
  list.setAttribute("aria-label", data.unit);
  list.append(made("li", "", `${data.unit}:`));
  for (const shade of data.shades) {
    const item = made("li");
    const swatch = made("span", "swatch", "a");
    swatch.setAttribute("aria-hidden", "true");
    shaded(swatch, shade);
    item.append(swatch, shade.label);
    list.append(item);
  }
  return list;
}

// Blocks end at line breaks, where a block's own end changes nothing that is seen. The browser
// leaves out what is far off, so that a long response costs no more than a short one.
class Blocks {
  constructor(place) {
    this.place = place;
    this.next();
  }

  next() {
    this.block = made("div", "block");
    this.characters = 0;
    this.place.append(this.block);
  }

  plain(text) {
    let rest = text;
    while (rest) {
      const from = Math.max(0, BLOCK_CHARACTERS - this.characters);
      const at = rest.indexOf("\n", from);
      const part = at < 0 ? rest : rest.slice(0, at + 1);
      this.block.append(part);
      this.characters += part.length;
      rest = rest.slice(part.length);
      if (at >= 0) this.next();
    }
  }

  token(one) {
    this.block.append(one);
    this.characters += one.textContent.length;
    if (this.characters > BLOCK_CHARACTERS && one.textContent.endsWith("\n")) this.next();
  }

  close() {
    if (!this.block.hasChildNodes()) this.block.remove();
    this.place.classList.toggle("long", this.place.childElementCount > 2);
  }
}

function drawText(state, data) {
  const box = made("div", "text");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `Response ${data.name}. Arrow keys go from one scored token to the next, Enter chooses.`);
  state.tokens = [];
  state.fold = null;
  const folded = data.thought ?? 0;
  const rest = made("div");
  let blocks = new Blocks(rest);
  if (folded) {
    state.fold = made("details");
    state.fold.append(made("summary", "", data.thought_label));
    const inner = made("div");
    state.fold.append(inner);
    box.append(state.fold);
    blocks = new Blocks(inner);
  }
  data.texts.forEach((text, i) => {
    if (folded && i === folded) {
      blocks.close();
      blocks = new Blocks(rest);
    }
    if (data.positions[i] < 0) {
      blocks.plain(text);
      return;
    }
    const place = state.tokens.length;
    const one = made("span", "token", text);
    one.setAttribute("role", "button");
    one.setAttribute("aria-pressed", "false");
    one.tabIndex = -1;
    one.dataset.place = place;
    shaded(one, data.shades[data.codes[place]]);
    state.tokens.push({ element: one, position: data.positions[i], folded: i < folded });
    blocks.token(one);
  });
  blocks.close();
  box.append(rest);
  if (!state.tokens.length) box.tabIndex = 0;
  return box;
}

function told(state, place) {
  const { element, position } = state.tokens[place];
  const { data } = state;
  const shade = data.shades[data.codes[place]];
  const text = element.textContent.trim();
  return `${text} · token ${position + 1} · ${data.unit} ${data.values[place]} (${shade.label})`;
}

function reachable(state, place) {
  return !state.tokens[place].folded || state.fold.open;
}

// Exactly one token that can be seen takes part in Tab's order: the one that arrows start from.
function standAt(state, place) {
  if (state.stand !== undefined) state.tokens[state.stand].element.tabIndex = -1;
  state.stand = place;
  if (place === undefined) return;
  const { element } = state.tokens[place];
  element.tabIndex = 0;
  element.setAttribute("aria-label", told(state, place));
}

function chosenAt(state, place) {
  if (state.chosen !== undefined) {
    state.tokens[state.chosen].element.setAttribute("aria-pressed", "false");
  }
  state.chosen = place;
  if (place === undefined) return;
  state.tokens[place].element.setAttribute("aria-pressed", "true");
  state.says.textContent = told(state, place);
}

function nextFrom(state, place, step) {
  let at = place + step;
  while (at >= 0 && at < state.tokens.length && !reachable(state, at)) at += step;
  return at >= 0 && at < state.tokens.length ? at : place;
}

function edge(state, step) {
  const outside = step > 0 ? -1 : state.tokens.length;
  const found = nextFrom(state, outside, step);
  return found === outside ? undefined : found;
}

function choose(state, place) {
  standAt(state, place);
  chosenAt(state, place);
  state.position = state.tokens[place].position;
  state.send("at", state.position);
}

function placeOf(event) {
  const one = event.target.closest?.(".token");
  return one ? Number(one.dataset.place) : undefined;
}

function keyed(state, event) {
  const place = placeOf(event);
  if (place === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  const goes = {
    ArrowRight: () => nextFrom(state, place, 1),
    ArrowLeft: () => nextFrom(state, place, -1),
    Home: () => edge(state, 1),
    End: () => edge(state, -1),
  }[event.key];
  if (goes) {
    const to = goes();
    standAt(state, to);
    state.tokens[to].element.focus();
  } else if (event.key === "Enter" || event.key === " ") {
    choose(state, place);
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
}

// Scrolls the box alone: the page stays where its reader left it.
function reveal(state, place) {
  const { element } = state.tokens[place];
  const top = element.getBoundingClientRect().top - state.box.getBoundingClientRect().top;
  state.box.scrollTop += top - state.box.clientHeight / 3;
}

function draw(root, state, data) {
  const sameText =
    state.data?.name === data.name && [state.data.at, state.position].includes(data.at);
  const kept = sameText ? state.position : undefined;
  const open = sameText && state.fold?.open;
  const scrolled = sameText ? state.box.scrollTop : 0;
  state.data = data;
  state.stand = state.chosen = undefined;
  state.box = drawText(state, data);
  state.says = made("p", "says");
  state.says.setAttribute("role", "status");
  root.replaceChildren(legend(data), state.box, state.says);

  const position = kept ?? data.at;
  const found = state.tokens.findIndex((token) => token.position === position);
  const place = found < 0 ? undefined : found;
  state.position = position;
  if (state.fold) {
    state.fold.open = open || (place !== undefined && state.tokens[place].folded);
    state.fold.addEventListener("toggle", () => {
      if (state.stand === undefined || !reachable(state, state.stand)) {
        standAt(state, edge(state, 1));
      }
    });
  }
  standAt(state, place ?? edge(state, 1));
  chosenAt(state, place);
  if (sameText) state.box.scrollTop = scrolled;
  else if (place !== undefined) requestAnimationFrame(() => reveal(state, place));

  root.onclick = (event) => {
    const at = placeOf(event);
    if (at !== undefined) choose(state, at);
  };
  root.onkeydown = (event) => keyed(state, event);
  state.box.addEventListener("focusin", (event) => {
    const at = placeOf(event);
    if (at !== undefined) state.says.textContent = told(state, at);
  });
  state.box.addEventListener("pointerover", (event) => {
    const at = placeOf(event);
    if (at !== undefined) event.target.title = told(state, at);
  });
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".response");
  if (!states.has(root)) states.set(root, {});
  const state = states.get(root);
  state.send = setTriggerValue;
  if (state.data !== data) draw(root, state, data);
}
