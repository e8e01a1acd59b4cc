// CT with one map over it in three planes; the crosshair reads the values. NiiVue draws, from files of this page only.
import { Niivue, SLICE_TYPE, MULTIPLANAR_TYPE, SHOW_RENDER } from "/static/vendor/niivue-0.69.0.js";

const place = document.getElementById("viewer");
const canvas = document.getElementById("maps");
const reading = document.getElementById("reading");
const classes = JSON.parse(place.dataset.classes);
const base = `/results/${Number(place.dataset.job)}/maps`;
const MAPS = {
  V: { colormap: "viridis", unit: "ml/ml", title: "V", low: 0.001 },
  Q: { colormap: "inferno", unit: "g/ml", title: "Q", low: 0.001 },
  VQ: { colormap: "viridis", unit: "", title: "V/Q", low: 0.001, high: 2 },
  classes: { title: "class" },
};
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
let chosen = "classes";
let opacity = 0.55;

const viewer = new Niivue({
  backColor: [0, 0, 0, 1], crosshairColor: [0.42, 0.78, 0.88, 0.9], crosshairWidth: 1, show3Dcrosshair: false,
  multiplanarForceRender: false, dragAndDropEnabled: false, isColorbar: false,
  isRadiologicalConvention: true, // the right of the patient is at the left of the picture, as in every PACS
  onLocationChange: (at) => read(at),
});

function read(at) {
  const parts = (at?.values ?? []).map((one, n) => {
    if (n === 0) return `${Math.round(one.value)} HU`;
    if (chosen === "classes") return classes.find((c) => c.n === Math.round(one.value))?.title ?? "not classified";
    const map = MAPS[chosen];
    return `${map.title} ${one.value ? one.value.toFixed(3) : "–"} ${map.unit}`.trim();
  });
  if (parts.length) reading.textContent = parts.join("   ");
}

async function load() {
  const volumes = [{ url: `${base}/ct.nii.gz`, colormap: "gray", cal_min: -1000, cal_max: 100 }];
  const map = MAPS[chosen];
  if (map) volumes.push({ url: `${base}/${chosen}.nii.gz`, colormap: map.colormap ?? "gray", opacity });
  reading.textContent = "The maps are loading.";
  await viewer.loadVolumes(volumes);
  if (chosen === "classes") {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const one of classes) {
      const [r, g, b] = rgb(one.colour);
      table.R.push(r); table.G.push(g); table.B.push(b); table.A.push(255); table.I.push(one.n); table.labels.push("");
    }
    viewer.volumes[1].setColormapLabel(table);
  } else if (map) {
    const volume = viewer.volumes[1];
    volume.cal_min = map.low;
    volume.cal_max = map.high ?? volume.robust_max ?? volume.global_max;
  }
  viewer.updateGLVolume();
  canvas.dataset.ready = chosen;
  reading.textContent = "Click to read the values there.";
}

async function start() {
  await viewer.attachToCanvas(canvas);
  viewer.setSliceType(SLICE_TYPE.MULTIPLANAR);
  viewer.setMultiplanarLayout?.(MULTIPLANAR_TYPE.ROW);
  viewer.opts.multiplanarShowRender = SHOW_RENDER.NEVER;
  viewer.setInterpolation(false);
  await load();
  viewer.scene.crosshairPos = [0.7, 0.5, 0.5]; // through the right lung: between the lungs a sagittal plane shows none
  viewer.drawScene();
}

/** Say why there is no picture, in place of the empty canvas. */
function fail(sentence) {
  reading.textContent = sentence;
  canvas.parentElement.hidden = true;
  canvas.dataset.ready = "failed";
}

if (document.createElement("canvas").getContext("webgl2"))
  start().catch((error) => { console.warn(error); fail("The maps of this result cannot be loaded."); });
else fail("This browser cannot show the maps: it has no WebGL 2.");

for (const input of place.querySelectorAll("input[name=map]"))
  input.addEventListener("change", () => {
    chosen = input.value;
    load().catch(() => (reading.textContent = "This map cannot be loaded."));
  });
place.querySelector("input[name=opacity]").addEventListener("input", (event) => {
  opacity = Number(event.target.value) / 100;
  if (viewer.volumes.length > 1) viewer.setOpacity(1, opacity);
});
