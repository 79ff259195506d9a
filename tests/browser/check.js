// What is wrong with this page as it is shown now: a list of sentences, empty if nothing is.
(() => {
  const wrong = [];
  const seen = (node) => node.checkVisibility();
  const all = (what) => [...document.querySelectorAll(what)].filter(seen);
  const words = (node) => node.textContent.trim().slice(0, 60);

  if (document.scripts.length) wrong.push("there is a script");
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) {
    const wide = all("body *").filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll"));
    wrong.push(`${root.scrollWidth} wide, the window ${innerWidth}: ${wide.slice(0, 3).map((node) => node.outerHTML.slice(0, 120))}`);
  }

  // Every kill of every story has a mark, with a text alternative and a row that it leads to.
  const marks = all("a.kill");
  const rows = document.querySelectorAll("tr[id*='-kill-']");
  if (marks.length !== rows.length) wrong.push(`${rows.length} kills, ${marks.length} marks`);
  for (const mark of marks) {
    if (!/^Kill \S.* at .*;/.test(mark.getAttribute("aria-label") || "")) wrong.push(`a mark without words: ${mark.outerHTML.slice(0, 120)}`);
    if (!mark.querySelector("title")) wrong.push("a mark without a title");
    const row = document.getElementById(mark.getAttribute("href").slice(1));
    if (!row || !seen(row)) wrong.push(`${mark.getAttribute("href")} leads nowhere`);
  }
  for (const link of all("a[href^='#']")) {
    if (!document.getElementById(link.getAttribute("href").slice(1))) wrong.push(`${link.getAttribute("href")} leads nowhere`);
  }
  for (const svg of all("svg")) {
    if (!svg.getAttribute("aria-label") && svg.getAttribute("aria-hidden") !== "true") wrong.push("a picture without a name");
  }
  for (const figure of all("figure")) {
    if (figure.querySelector("svg") && !figure.closest("section").querySelector("table")) wrong.push(`no table beside ${words(figure)}`);
  }

  // Labels of pictures: inside of their picture, large enough, not one upon another.
  for (const svg of all("figure > svg")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].filter((text) => words(text) && !text.closest("a"));
    const boxes = texts.map((text) => text.getBoundingClientRect());
    boxes.forEach((box, n) => {
      if (box.left < frame.left - 2 || box.right > frame.right + 2 || box.top < frame.top - 2 || box.bottom > frame.bottom + 2) {
        wrong.push(`cut off: ${words(texts[n])}`);
      }
      if (box.height < 9) wrong.push(`too small (${box.height}): ${words(texts[n])}`);
      for (let m = 0; m < n; m++) {
        const other = boxes[m];
        const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
        const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
        if (across > 1 && down > 3) wrong.push(`one upon another: "${words(texts[m])}" and "${words(texts[n])}"`);
      }
    });
  }

  // Contrast as WCAG 2.2 has it, 1.4.3.
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const rgb = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const contrast = (a, b) => {
    const [x, y] = [light(a) + 0.05, light(b) + 0.05];
    return Math.max(x, y) / Math.min(x, y);
  };
  const ground = rgb(getComputedStyle(root).backgroundColor);
  for (const node of all("body *")) {
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
    const inside = node.ownerSVGElement;
    if (inside && !node.matches("text")) continue;
    const under = node.closest("a.kill")?.querySelector("circle, rect:not(.touch)");
    const below = under ? rgb(getComputedStyle(under).fill) : ground;
    const found = contrast(rgb(inside ? getComputedStyle(node).fill : getComputedStyle(node).color), below);
    if (found < 4.5) wrong.push(`contrast ${found.toFixed(2)}: ${words(node)}`);
  }
  return wrong;
})();
