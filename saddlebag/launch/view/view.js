{
  const all = (what) => [...document.querySelectorAll(what)];
  const merit = document.getElementById("merit");
  const boxes = all(".choices input");
  const key = "saddlebag view";
  const kept = (() => { try { return JSON.parse(sessionStorage.getItem(key)) || {}; } catch { return {}; } })();
  const name = (box) => box.dataset.across === undefined ? box.parentElement.textContent.trim() : `across ${box.dataset.across}`;
  if (all("#merit option").some((option) => option.value === kept.merit)) merit.value = kept.merit;
  for (const box of boxes) if (name(box) in (kept.boxes || {})) box.checked = kept.boxes[name(box)];
  const show = () => {
    for (const section of all("section.merit")) section.classList.toggle("off", section.dataset.merit !== merit.value);
    for (const box of boxes) {
      const what = box.dataset.of === undefined ? `figure[data-across="${box.dataset.across}"]` : `[data-curve="${box.dataset.of}"]`;
      for (const part of all(what)) part.classList.toggle("off", !box.checked);
    }
  };
  const keep = () => {
    try {
      const states = Object.fromEntries(boxes.map((box) => [name(box), box.checked]));
      sessionStorage.setItem(key, JSON.stringify({ merit: merit.value, boxes: states, at: scrollY }));
    } catch { /* a browser that keeps nothing for files */ }
  };
  document.querySelector(".choices").addEventListener("change", () => { show(); keep(); });
  show();
  const again = Number(document.getElementById("state").dataset.again);
  if (again) {
    if (kept.at) scrollTo(0, kept.at);
    setTimeout(() => { keep(); location.reload(); }, 1000 * again);
  }
}
