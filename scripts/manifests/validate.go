// Reads Kubernetes objects as YAML on stdin and checks each as the API server does before it stores it: strict decoding (unknown and
// repeated fields), defaults, the server's own validation, and for what makes pods the "restricted" pod security standard.
// Prints kind/name of each; exits 1 when one is refused. `scripts/k8s-check` builds it with the server's own packages.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsinstall "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchinstall "k8s.io/kubernetes/pkg/apis/batch/install"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	coreinstall "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkinginstall "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyinstall "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	security "k8s.io/pod-security-admission/api"
	standards "k8s.io/pod-security-admission/policy"
)

// What the server itself fills in before it validates, and its validation; the pod template of what makes pods.
func validate(object runtime.Object) (field.ErrorList, *core.PodTemplateSpec) {
	pods := corevalidation.PodValidationOptions{}
	switch o := object.(type) {
	case *core.Namespace:
		return corevalidation.ValidateNamespace(o), nil
	case *core.ServiceAccount:
		return corevalidation.ValidateServiceAccount(o), nil
	case *core.ConfigMap:
		return corevalidation.ValidateConfigMap(o), nil
	case *core.Secret:
		return corevalidation.ValidateSecret(o), nil
	case *core.Service:
		if o.Spec.ClusterIP == core.ClusterIPNone {
			o.Spec.ClusterIPs = []string{core.ClusterIPNone}
		}
		return corevalidation.ValidateServiceCreate(o), nil
	case *apps.StatefulSet:
		return appsvalidation.ValidateStatefulSet(o, pods), &o.Spec.Template
	case *batch.Job:
		id := map[string]string{"batch.kubernetes.io/controller-uid": "1"}
		o.Spec.Selector = &metav1.LabelSelector{MatchLabels: id}
		o.Spec.Template.Labels["batch.kubernetes.io/controller-uid"] = "1"
		o.Spec.Template.Labels["batch.kubernetes.io/job-name"] = o.Name
		o.Spec.Template.Labels["controller-uid"], o.Spec.Template.Labels["job-name"] = "1", o.Name
		o.UID = "1"
		options := batchvalidation.JobValidationOptions{PodValidationOptions: pods, RequirePrefixedLabels: true}
		return batchvalidation.ValidateJob(o, options), &o.Spec.Template
	case *networking.NetworkPolicy:
		return networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{}), nil
	case *policy.PodDisruptionBudget:
		return policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{}), nil
	}
	return field.ErrorList{field.InternalError(nil, errors.New("no kind that is looked at here"))}, nil
}

func main() {
	scheme := runtime.NewScheme()
	for _, install := range []func(*runtime.Scheme){
		appsinstall.Install, batchinstall.Install, coreinstall.Install, networkinginstall.Install, policyinstall.Install,
	} {
		install(scheme)
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(
		core.SchemeGroupVersion, apps.SchemeGroupVersion, batch.SchemeGroupVersion, networking.SchemeGroupVersion, policy.SchemeGroupVersion)
	standard, err := standards.NewEvaluator(standards.DefaultChecks())
	if err != nil {
		panic(err)
	}
	restricted := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
	reader := yamlutil.NewYAMLReader(bufio.NewReader(os.Stdin))
	refused, seen := 0, 0
	refuse := func(what string, why any) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, why)
		refused++
	}
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			refuse("stdin", err)
			break
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			refuse("an object", err)
			continue
		}
		about := object.(metav1.Object)
		if about.GetNamespace() == "" && kind.Kind != "Namespace" {
			about.SetNamespace("default") // as kubectl says it
		}
		name := kind.Kind + "/" + about.GetName()
		seen++
		fmt.Println(name)
		problems, template := validate(object)
		for _, problem := range problems {
			refuse(name, problem)
		}
		if template == nil {
			continue
		}
		pod := &corev1.PodTemplateSpec{}
		if err := scheme.Convert(template, pod, nil); err != nil {
			refuse(name, err)
			continue
		}
		for _, result := range standard.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				refuse(name, result.ForbiddenReason+": "+result.ForbiddenDetail)
			}
		}
	}
	if refused > 0 || seen == 0 {
		os.Exit(1)
	}
}
