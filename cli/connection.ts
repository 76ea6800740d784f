// The controller's client, and of its module nothing else: what is loaded dynamically is loaded whole.
export { ControllerClient } from '../controller/client.ts'
