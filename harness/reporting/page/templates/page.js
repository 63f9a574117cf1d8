"use strict";
(() => {
  // Show or hide an arm in all figures: what belongs to the arm of number N has the class arm-N.
  const show = (arm, shown) => {
    for (const part of document.querySelectorAll(`.arm-${arm}`)) part.classList.toggle("off", !shown);
    for (const button of document.querySelectorAll(`button[data-arm="${arm}"]`)) button.setAttribute("aria-pressed", shown);
  };
  for (const button of document.querySelectorAll("button[data-arm]")) {
    button.disabled = false;
    button.addEventListener("click", () => show(button.dataset.arm, button.getAttribute("aria-pressed") !== "true"));
  }
  window.addEventListener("beforeprint", () => {
    for (const more of document.querySelectorAll("details")) more.open = true;
  });
})();
