// The search runs in a worker, which browsers refuse to pages that were opened as files. There, a hidden frame takes its place.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inner = frame.contentWindow
      const load = source => new Promise((done, failed) => {
        const script = frame.contentDocument.createElement("script")
        script.src = source
        script.onload = done
        script.onerror = failed
        frame.contentDocument.body.appendChild(script)
      })
      inner.postMessage = data => {
        const event = new MessageEvent("message", { data })
        this.dispatchEvent(event)
        if (this.onmessage) this.onmessage(event)
      }
      inner.importScripts = (...sources) => sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve())
      load(url).then(() => {
        this.inner = inner
        for (const data of this.waiting) this.postMessage(data)
      })
    }
    postMessage(data) {
      if (!this.inner) this.waiting.push(data)
      else this.inner.dispatchEvent(new MessageEvent("message", { data }))
    }
    terminate() {}
  }
}
