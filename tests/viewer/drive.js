// node drive.js BASE STUDY OUT POINTS: opens the study in OHIF, shows each kind of object, keeps pictures and findings.
// POINTS is a JSON file: [{"name", "world": [x, y, z], "slice"}]; what is found there goes to OUT/found.json.
const fs = require('fs');
const path = require('path');
const modules = process.env.VIEWER_MODULES;
const { chromium } = require(path.join(modules, 'playwright-core'));
const [base, study, out, pointsFile] = process.argv.slice(2);
const points = JSON.parse(fs.readFileSync(pointsFile));
const found = { errors: [], points: [] };

async function thumbnail(page, words) {
  const item = page.locator('[data-cy^="study-browser-thumbnail"]').filter({ hasText: words }).first();
  await item.scrollIntoViewIfNeeded();
  await item.dblclick();
}

async function settled(page, seconds) {
  await page.waitForLoadState('networkidle', { timeout: 180000 }).catch(() => {});
  await page.waitForTimeout(seconds * 1000);
}

async function locate(page, point) {
  // where the viewer itself puts a point of the patient, after scrolling to its slice
  return page.evaluate(async ({ world }) => {
    const viewport = window.cornerstone.getRenderingEngines()[0].getViewports()[0];
    const near = ids => ids.map((id, n) => [Math.abs(
      window.cornerstone.metaData.get('imagePlaneModule', id).imagePositionPatient[2] - world[2]), n])
      .sort((a, b) => a[0] - b[0])[0][1];
    const index = near(viewport.getImageIds());
    if (viewport.setImageIdIndex) await viewport.setImageIdIndex(index);
    else window.cornerstone.utilities.jumpToSlice
      ? await window.cornerstone.utilities.jumpToSlice(viewport.element, { imageIndex: index })
      : viewport.setViewReference({ ...viewport.getViewReference(), sliceIndex: index });
    viewport.render();
    const [x, y] = viewport.worldToCanvas(world);
    const box = viewport.element.getBoundingClientRect();
    return { x: x + box.left, y: y + box.top, index, type: viewport.type };
  }, point);
}

let page;
(async () => {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--use-gl=angle', '--use-angle=swiftshader', '--enable-unsafe-swiftshader'],
  });
  page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
  page.setDefaultTimeout(300000); // on a busy machine a thumbnail alone may take a minute
  page.on('pageerror', e => found.errors.push(e.message));
  const picture = name => page.screenshot({ path: path.join(out, `${name}.png`) });
  await page.goto(`${base}/viewer?StudyInstanceUIDs=${study}`);
  await page.locator('[data-cy^="study-browser-thumbnail"]').first().waitFor({ timeout: 300000 });
  await settled(page, 8);
  const skip = page.getByText('Skip all');
  if (await skip.count()) await skip.first().click();

  await thumbnail(page, 'V/Q classes SEG');
  await page.getByText('Do you want to open this Segmentation?').waitFor({ timeout: 300000 });
  await page.getByRole('button', { name: 'Yes' }).click();
  await settled(page, 8);
  for (const point of points) {
    const at = await locate(page, point);
    await settled(page, 3);
    await picture(`seg-${point.name}`);
    found.points.push({ ...point, ...at });
  }
  const panel = page.locator('[data-cy="panelSegmentationWithTools-btn"], [data-cy="panelSegmentationWithToolsLabelMap-btn"], [data-cy="panelSegmentation-btn"]');
  if (await panel.count()) { await panel.first().click(); await settled(page, 2); }
  found.segments = await page.evaluate(() => document.body.innerText);
  await picture('seg-panel');

  for (const [name, words, seconds] of [
    ['capture', 'V/Q classes, colour', 6], ['map', 'Ventilation V', 20], ['summary', 'V/Q summary', 6], ['pdf', 'V/Q report PDF', 8],
    ['sr', 'V/Q report SR', 10],
  ]) {
    await page.goto(`${base}/viewer?StudyInstanceUIDs=${study}`);
    await page.locator('[data-cy^="study-browser-thumbnail"]').first().waitFor({ timeout: 300000 });
    await settled(page, 5);
    await thumbnail(page, words);
    await settled(page, seconds);
    if (name === 'capture' || name === 'map') {
      found[name] = [];
      for (const point of points) {
        const at = await locate(page, point);
        await settled(page, 3);
        await picture(`${name}-${point.name}`);
        found[name].push({ ...point, ...at });
      }
    }
    if (name === 'sr') found.sr = await page.evaluate(() => document.body.innerText);
    if (name === 'pdf') {
      // what the viewer hands to the browser's own PDF display
      found.pdf = await page.evaluate(async () => {
        const data = await (await fetch(document.querySelector('object[type="application/pdf"]').data)).arrayBuffer();
        return btoa(Array.from(new Uint8Array(data), byte => String.fromCharCode(byte)).join(''));
      });
    }
    await picture(name);
  }
  fs.writeFileSync(path.join(out, 'found.json'), JSON.stringify(found, null, 1));
  await browser.close();
})().catch(async error => {
  console.error(error, found.errors);
  if (page) await page.screenshot({ path: path.join(out, 'failed.png') });
  process.exit(1);
});
