// The image table agrees with itself; whether its files exist is for the builder to say.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hostBundles, images, layers } from './manifest.ts'

const byName = new Map(layers.map(layer => [layer.name, layer]))

test('names of layers, images and bundles are unique', () => {
  const bundles = [...layers.flatMap(layer => layer.bundles ?? []), ...hostBundles]
  for (const list of [layers, images, bundles]) {
    const names = list.map(each => each.name)
    assert.equal(new Set(names).size, names.length)
  }
})

test('every layer of an image is in the table, after all that it lies over', () => {
  for (const image of images)
    image.layers.forEach((name, index) => {
      const layer = byName.get(name)
      assert.ok(layer, `${image.name}: ${name}`)
      for (const below of layer.over ?? [])
        assert.ok(image.layers.slice(0, index).includes(below), `${image.name}: ${below} below ${name}`)
    })
})

test('every layer lies over layers of the table', () => {
  for (const layer of layers) for (const below of layer.over ?? []) assert.ok(byName.has(below), below)
})

test('an entrypoint that starts a bundle starts one of its image', () => {
  for (const image of images) {
    const inImage = image.layers
      .flatMap(name => byName.get(name)?.bundles ?? [])
      .map(b => `/bin/${b.name}.mjs`)
    for (const entrypoint of Object.values(image.entrypoints ?? {}))
      for (const arg of entrypoint.args ?? [])
        if (arg.endsWith('.mjs')) assert.ok(inImage.includes(arg), `${image.name}: ${arg}`)
  }
})
