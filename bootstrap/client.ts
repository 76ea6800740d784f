// What other components import of bootstrap: the command that `flynn-host` offers.
export { bootstrapCommand, bootstrapUsage } from './command.ts'
