// Colours of data. Scales run through lightness alone, and categories differ in lightness, too, so that they can be told
// apart without seeing colours. The categories are Okabe and Ito's ("Color Universal Design", 2008), fitted to both themes.

const SCALES = {
  light: ["#f3f5fb", "#cdd6f1", "#95a8e0", "#5a70c4", "#293a8c"],
  dark: ["#1b1f2c", "#2a376b", "#465fb0", "#83a1ea", "#dbe6ff"],
};
const CATEGORIES = {
  light: ["#0072b2", "#d55e00", "#009e73", "#c0569a", "#b07c00", "#4aa8e0", "#6a4fa3", "#7a5a3c"],
  dark: ["#4ea8de", "#ff8a3c", "#2fcf9f", "#f09ccb", "#ffc83d", "#9ad8ff", "#b49cf0", "#c9a583"],
};
const OTHER = { light: "#8a90a0", dark: "#7b8294" };
const POINT = { light: "#4a5ec4", dark: "#8fa5ff" };

const theme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");

export const categories = () => CATEGORIES[theme()];
export const otherColour = () => OTHER[theme()];
export const pointColour = () => POINT[theme()];

/** A colour for a share from 0 to 1, and black or white, whichever reads better on it (always at least 4.5:1). */
export function shade(share) {
  const stops = SCALES[theme()].map(channels);
  const place = Math.max(0, Math.min(1, share)) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  const colour = stops[low].map((from, channel) => Math.round(from + (stops[low + 1][channel] - from) * (place - low)));
  const light = luminance(colour);
  return {
    background: `rgb(${colour.join(" ")})`,
    ink: (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000" : "#fff",
  };
}

/** A scale for points: its lower end must stand out from the paper, too. */
export const pointShade = (share) => shade(0.25 + 0.75 * share).background;

function channels(hex) {
  return [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
}

/** Relative luminance as WCAG 2 has it. */
function luminance(colour) {
  const [red, green, blue] = colour.map((channel) => {
    const share = channel / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
