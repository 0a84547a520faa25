/**
 * Whose series are asked. In the committed rules these select everything, so that any Prometheus can load them; the
 * chart narrows them to its release (templates/prometheusrule.yaml).
 */
export const ours = 'service=~".+"';
export const ourDeployments = 'deployment=~".+"';
export const ourMigrations = 'job_name=~".+-migrate"';
export const ourContainers = 'container=~".+"';
