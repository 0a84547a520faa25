/** Roles of pods, by Pod Identity: only the pods of one service account of the cluster take a role. */
import { CfnPodIdentityAssociation } from "aws-cdk-lib/aws-eks-v2";
import {
  ManagedPolicy,
  type PolicyDocument,
  type PolicyStatement,
  Role,
  ServicePrincipal,
  SessionTagsPrincipal,
} from "aws-cdk-lib/aws-iam";
import type { Construct } from "constructs";

/** Whose pods they are. */
export type ServiceAccount = { clusterName: string; namespace: string; account: string };
type Rights = { managed?: string; statements?: PolicyStatement[]; document?: PolicyDocument };

/** A role for the pods of one service account. */
export function podRole(scope: Construct, id: string, { clusterName, namespace, account }: ServiceAccount, rights: Rights): Role {
  const { managed, statements, document } = rights;
  const pods = new ServicePrincipal("pods.eks.amazonaws.com", {
    conditions: {
      StringEquals: {
        "aws:RequestTag/kubernetes-namespace": namespace,
        "aws:RequestTag/kubernetes-service-account": account,
        "aws:RequestTag/eks-cluster-name": clusterName,
      },
    },
  });
  const role = new Role(scope, `${id}Role`, {
    assumedBy: new SessionTagsPrincipal(pods),
    managedPolicies: managed ? [ManagedPolicy.fromAwsManagedPolicyName(managed)] : [],
  });
  for (const statement of statements ?? []) role.addToPolicy(statement);
  if (document) new ManagedPolicy(scope, `${id}Policy`, { document, roles: [role] });
  return role;
}

/** Gives a role to pods that no add-on of EKS brings. */
export function associate(scope: Construct, { clusterName, namespace, account }: ServiceAccount, role: Role): void {
  new CfnPodIdentityAssociation(scope, `${role.node.id}Association`, {
    clusterName,
    namespace,
    serviceAccount: account,
    roleArn: role.roleArn,
  });
}
